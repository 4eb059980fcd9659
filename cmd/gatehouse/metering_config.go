package main

import (
	"fmt"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/client"
	"github.com/gatehouse-gateway/gatehouse/metering"
)

// meterConfig says how usage is counted, kept and handed on.
type meterConfig struct {
	// Flush is the time between two writes of the log, 10ms to 1m: what a power
	// loss costs. Default 1s.
	Flush gatehouse.Duration `json:"flush"`
	// LiveDir is a folder in memory or on a local disk for what is counted now.
	// Default: /dev/shm where it will do, else data.
	LiveDir string `json:"live_dir"`
	// Retain is how long usage stays in the log where there is no sink. There
	// is a ledger, so that it is for what the ledger has not got. Default 24h.
	Retain gatehouse.Duration `json:"retain"`
	// Log bounds the log, from 16MiB. Default 1GiB. From half of it on usage is
	// kept by the hour.
	Log gatehouse.ByteSize `json:"log"`
	// OnFull is what becomes of billable requests while usage cannot be
	// written: count_in_memory (default), or refuse with 503.
	OnFull string `json:"on_full"`
	// Network allows data to be on a network file system, where nothing of what
	// is said about a kill is certain.
	Network bool `json:"network"`
	// Sinks get all usage. The first of kind sqlite or postgres is the ledger;
	// without one that is metering.db below data, or in the store where that is
	// PostgreSQL. A data plane of a control plane elsewhere sends its usage there
	// too, unless its ledger is PostgreSQL, which both know.
	Sinks []sinkConfig `json:"sinks"`
}

// sinkConfig is one sink. Which keys it takes beside kind and name depends on
// its kind.
type sinkConfig struct {
	// Kind is sqlite, postgres, clickhouse, kafka or cloudevents.
	Kind string `json:"kind"`
	// Name tells sinks of one kind apart, in metrics and in what is known of
	// how far they are. Default: the kind.
	Name string `json:"name"`
	// URL is sqlite:FILE below data, postgres://…, or http:// or https:// of
	// ClickHouse or of a receiver of CloudEvents.
	URL string `json:"url"`
	// User and PasswordFile log in to ClickHouse and Kafka. To PostgreSQL the
	// user is in URL.
	User         string `json:"user"`
	PasswordFile string `json:"password_file"`
	// Table of ClickHouse. Default metering_cell.
	Table string `json:"table"`
	// Brokers of Kafka, host:port, and Topic, which exists. Default
	// gatehouse.usage.
	Brokers []string `json:"brokers"`
	Topic   string   `json:"topic"`
	// Mechanism is how Kafka is logged in to: PLAIN, SCRAM-SHA-256 or
	// SCRAM-SHA-512. Default: not at all.
	Mechanism string `json:"mechanism"`
	// TLS is for Kafka; CAFile holds the certificates that those of its brokers
	// must come from. Default: those of the system.
	TLS    bool   `json:"tls"`
	CAFile string `json:"ca_file"`
	// TokenFile holds what a receiver of CloudEvents is sent as a bearer token.
	TokenFile string `json:"token_file"`
}

// The kinds of sinks.
const (
	kindSQLite      = "sqlite"
	kindPostgres    = "postgres"
	kindClickHouse  = "clickhouse"
	kindKafka       = "kafka"
	kindCloudEvents = "cloudevents"
)

// sinkKeys are those that each kind takes; those with ! it needs.
func sinkKeys(kind string) ([]string, bool) {
	switch kind {
	case kindSQLite:
		return []string{"url"}, true
	case kindPostgres:
		return []string{"!url", "password_file"}, true
	case kindClickHouse:
		return []string{"!url", "user", "password_file", "table"}, true
	case kindKafka:
		return []string{"!brokers", "topic", "user", "password_file", "mechanism", "tls", "ca_file"}, true
	case kindCloudEvents:
		return []string{"!url", "token_file"}, true
	}
	return nil, false
}

// What becomes of billable requests while usage cannot be written.
const (
	countInMemory = "count_in_memory"
	refuseOnFull  = "refuse"
)

func (c *sinkConfig) name() string { return first(c.Name, c.Kind) }

// ledger is the index of the sink that is the ledger, -1 where it is the
// default one.
func (c *meterConfig) ledger() int {
	return slices.IndexFunc(c.Sinks, func(s sinkConfig) bool { return s.Kind == kindSQLite || s.Kind == kindPostgres })
}

// options are those of the meter, without what is told.
func (c *meterConfig) options(data string, to []metering.Sink) metering.Options {
	return metering.Options{
		Dir: data, Live: c.LiveDir, Flush: c.Flush.Or(metering.DefaultFlush), Retain: c.Retain.Or(metering.DefaultRetain),
		Log: int64(c.Log), Network: c.Network, Refuse: c.OnFull == refuseOnFull, Sinks: to,
	}
}

var sinkName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,40}$`)

// validate returns what is wrong with the section, with pointers from the root.
func (c *meterConfig) validate(counts bool) gatehouse.Faults {
	var fs gatehouse.Faults
	fault := func(bad bool, at, reason, hint string) {
		if bad {
			fs = append(fs, gatehouse.Fault{Pointer: "/metering/" + at, Reason: reason, Hint: hint})
		}
	}
	flush := time.Duration(c.Flush)
	fault(flush != 0 && (flush < 10*time.Millisecond || flush > time.Minute), "flush", "flush is outside 10ms to 1m", "")
	fault(c.Retain < 0, "retain", "retain must not be negative", "")
	fault(c.Log < 16<<20, "log", "log is below 16MiB", "")
	fault(c.OnFull != countInMemory && c.OnFull != refuseOnFull, "on_full", fmt.Sprintf("on_full %q is unknown", c.OnFull), "use count_in_memory or refuse")
	if c.LiveDir != "" {
		info, err := os.Stat(c.LiveDir)
		fault(err != nil || !info.IsDir(), "live_dir", c.LiveDir+" is no folder", "make it, on a local disk or in memory")
	}
	names := map[string]bool{controlSinkName: true}
	for i := range c.Sinks {
		s := &c.Sinks[i]
		at := fmt.Sprintf("sinks/%d/", i)
		keys, known := sinkKeys(s.Kind)
		fault(!known, at+"kind", fmt.Sprintf("kind %q is unknown", s.Kind), "use sqlite, postgres, clickhouse, kafka or cloudevents")
		if !known {
			continue
		}
		fault(!sinkName.MatchString(s.name()), at+"name", fmt.Sprintf("name %q is not of 1 to 40 letters, digits, - and _", s.Name), "")
		fault(names[s.name()], at+"name", fmt.Sprintf("two sinks are called %q", s.name()), "give one of them another name")
		names[s.name()] = true
		fault(!counts && i != c.ledger(), at+"kind", "a control plane alone counts nothing that it could send", "leave it to the data planes; here a ledger may be named: sqlite or postgres")
		for _, f := range s.faults(keys) {
			fault(true, at+f.Pointer, f.Reason, f.Hint)
		}
	}
	return fs
}

// faults are those of one sink whose kind takes keys; their pointers are keys.
func (s *sinkConfig) faults(keys []string) (fs gatehouse.Faults) {
	fault := func(bad bool, at, reason, hint string) {
		if bad {
			fs = append(fs, gatehouse.Fault{Pointer: at, Reason: reason, Hint: hint})
		}
	}
	for _, k := range []struct {
		key string
		set bool
	}{
		{"url", s.URL != ""},
		{"user", s.User != ""},
		{"password_file", s.PasswordFile != ""},
		{"table", s.Table != ""},
		{"brokers", len(s.Brokers) > 0},
		{"topic", s.Topic != ""},
		{"mechanism", s.Mechanism != ""},
		{"tls", s.TLS},
		{"ca_file", s.CAFile != ""},
		{"token_file", s.TokenFile != ""},
	} {
		needed := slices.Contains(keys, "!"+k.key)
		fault(needed && !k.set, k.key, fmt.Sprintf("%s is missing", k.key), "a sink of kind "+s.Kind+" needs it")
		fault(k.set && !needed && !slices.Contains(keys, k.key), k.key, fmt.Sprintf("a sink of kind %s has no %s", s.Kind, k.key), "leave it out")
	}
	for _, f := range [][2]string{{"password_file", s.PasswordFile}, {"ca_file", s.CAFile}, {"token_file", s.TokenFile}} {
		if f[1] == "" {
			continue
		}
		text, err := os.ReadFile(f[1])
		if err != nil {
			fault(true, f[0], fmt.Sprintf("%s: cannot be read: %v", f[1], fileReason(err)), "")
		} else {
			fault(strings.TrimSpace(string(text)) == "", f[0], f[1]+" is empty", "")
		}
	}
	if s.URL == "" {
		return fs
	}
	switch s.Kind {
	case kindSQLite:
		fault(!strings.HasPrefix(s.URL, sqliteScheme) || s.URL == sqliteScheme, "url", "this is no file", "use sqlite:metering.db, which is below data")
	case kindPostgres:
		u, err := url.Parse(s.URL)
		fault(err != nil || !isPostgres(s.URL), "url", "this is not a URL of PostgreSQL", "use postgres://user@host/db")
		fault(err == nil && s.PasswordFile != "" && u.User.Username() == "", "url", "the user of password_file is missing", "use postgres://user@host/db")
	case kindClickHouse, kindCloudEvents:
		u, err := url.Parse(s.URL)
		fault(err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https", "url", "this is not a URL", "use https://host or http://host:port")
		fault(err == nil && u.Scheme == "http" && s.TokenFile != "" && !client.IsLocal(u.Host), "url", "the token would be sent in clear", "use https, or an address of this machine")
	}
	return fs
}
