package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/metering/ledger"
	"github.com/gatehouse-gateway/gatehouse/metering/sink/clickhouse"
	"github.com/gatehouse-gateway/gatehouse/metering/sink/cloudevents"
	"github.com/gatehouse-gateway/gatehouse/metering/sink/kafka"
)

// sinks are the ledger of a process and what else gets its usage. A nil one
// has none.
type sinks struct {
	ledger *lateLedger
	all    []metering.Sink
	ends   []func()
}

// openSinks speaks to no sink yet: one that is away keeps no process from
// serving, and usage waits in the log.
func openSinks(cfg *config) (_ *sinks, err error) {
	s := &sinks{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	list := cfg.Metering.Sinks
	at := cfg.Metering.ledger()
	book := &sinkConfig{Kind: kindSQLite}
	if at >= 0 {
		book = &list[at]
	} else if m := cfg.mode(); isPostgres(cfg.Store.URL) && (m == modeStore || m == modeControl) {
		book = &sinkConfig{Kind: kindPostgres, URL: cfg.Store.URL}
	}
	s.ledger = &lateLedger{name: book.name(), address: book.address(cfg.Data)}
	s.all = append(s.all, s.ledger)
	if cfg.mode() == modeProxy && book.Kind != kindPostgres { // else the ledger is one that both know
		c, gateway, err := dialControl(cfg)
		if err != nil {
			return nil, err
		}
		s.all = append(s.all, &controlSink{c, gateway, reportLimit})
	}
	for i := range list {
		if i == at {
			continue
		}
		one, end, err := s.open(cfg, &list[i])
		if err != nil {
			return nil, fmt.Errorf("metering.sinks[%d]: %w", i, err)
		}
		s.all = append(s.all, named{one, list[i].name()})
		if end != nil {
			s.ends = append(s.ends, end)
		}
	}
	return s, nil
}

func (s *sinks) open(cfg *config, c *sinkConfig) (metering.Sink, func(), error) {
	password, err := readSecret(c.PasswordFile)
	if err != nil {
		return nil, nil, err
	}
	switch c.Kind {
	case kindSQLite, kindPostgres:
		l := &lateLedger{name: c.name(), address: c.address(cfg.Data)}
		return l, func() { _ = l.close() }, nil // every write was committed
	case kindClickHouse:
		one, err := clickhouse.New(clickhouse.Config{URL: c.URL, User: c.User, Password: password, Table: c.Table})
		if err != nil {
			return nil, nil, err
		}
		return one, one.Close, nil
	case kindKafka:
		secure, err := c.tls()
		if err != nil {
			return nil, nil, err
		}
		one, err := kafka.New(kafka.Config{Brokers: c.Brokers, Topic: c.Topic, TLS: secure, Mechanism: c.Mechanism, User: c.User, Password: password})
		if err != nil {
			return nil, nil, err
		}
		return one, one.Close, nil
	}
	token, err := readSecret(c.TokenFile)
	if err != nil {
		return nil, nil, err
	}
	one, err := cloudevents.New(cloudevents.Config{URL: c.URL, Token: token, Final: s.ledger.Final})
	if err != nil {
		return nil, nil, err
	}
	return one, one.Close, nil
}

// close ends what is open; nothing writes any more.
func (s *sinks) close() error {
	if s == nil {
		return nil
	}
	for _, end := range s.ends {
		end()
	}
	if s.ledger == nil {
		return nil
	}
	return s.ledger.close()
}

// named is a sink under a name of the configuration.
type named struct {
	metering.Sink
	name string
}

func (n named) Name() string { return n.name }

// lateLedger is a ledger that is opened when it is first needed. It is safe
// for concurrent use.
type lateLedger struct {
	name, address string

	// mu guards the field below, and is held while it is opened.
	mu sync.Mutex
	is *ledger.Ledger // nil: not opened yet
}

// openLimit bounds the opening of a ledger.
const openLimit = 10 * time.Second

// open returns the ledger.
func (l *lateLedger) open(ctx context.Context) (*ledger.Ledger, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.is != nil {
		return l.is, nil
	}
	ctx, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	is, err := ledger.Open(ctx, l.address)
	if err != nil {
		return nil, withoutPassword(err, l.address)
	}
	l.is = is
	return is, nil
}

func (l *lateLedger) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.is == nil {
		return nil
	}
	err := l.is.Close()
	l.is = nil
	return err
}

// Name is that of the sink.
func (l *lateLedger) Name() string { return l.name }

// Write keeps a batch.
func (l *lateLedger) Write(ctx context.Context, b metering.Batch) error {
	is, err := l.open(ctx)
	if err != nil {
		return err
	}
	return is.Write(ctx, b)
}

// finalLimit is how long a sink of sealed cells waits for the ledger, which
// gets the same seal at about the same time.
const finalLimit = 10 * time.Second

// Final is that of the ledger, once it has the seal.
func (l *lateLedger) Final(ctx context.Context, s metering.Seal) ([]metering.Cell, error) {
	is, err := l.open(ctx)
	if err != nil {
		return nil, err
	}
	limit := time.Now().Add(finalLimit)
	for {
		cells, err := is.Final(ctx, s)
		if err == nil || time.Now().After(limit) || pause(ctx, 200*time.Millisecond) != nil {
			return cells, err
		}
	}
}

// withoutPassword keeps the password of an address out of what is logged.
func withoutPassword(err error, address string) error {
	u, e := url.Parse(address)
	if e != nil || u.User == nil {
		return err
	}
	if secret, ok := u.User.Password(); !ok || secret == "" || !strings.Contains(err.Error(), secret) {
		return err
	}
	return fmt.Errorf("open ledger at %s: it cannot be used", u.Redacted())
}

// readSecret reads a file that holds one secret; "" is for none.
func readSecret(name string) ([]byte, error) {
	if name == "" {
		return nil, nil
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return []byte(strings.TrimSpace(string(text))), nil
}

// address is that of a sink of SQL, with its password.
func (c *sinkConfig) address(data string) string {
	if c.Kind == kindSQLite {
		file := strings.TrimPrefix(c.URL, sqliteScheme)
		if file == "" {
			file = "metering.db"
		}
		if !filepath.IsAbs(file) {
			file = filepath.Join(data, file)
		}
		return file
	}
	u, err := url.Parse(c.URL)
	password, e := readSecret(c.PasswordFile)
	if err != nil || e != nil || len(password) == 0 {
		return c.URL // validate has told
	}
	u.User = url.UserPassword(u.User.Username(), string(password))
	return u.String()
}

// tls is how brokers are spoken to; nil: without.
func (c *sinkConfig) tls() (*tls.Config, error) {
	if !c.TLS {
		return nil, nil //nolint:nilnil // no TLS is no error
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile == "" {
		return t, nil
	}
	pem, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, err
	}
	t.RootCAs = x509.NewCertPool()
	if !t.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", c.CAFile)
	}
	return t, nil
}
