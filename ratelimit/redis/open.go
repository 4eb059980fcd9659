// Package redis keeps the counts of limits in Redis 7, for all gateways that
// share it: single, watched by Sentinel, or a Cluster.
//
// A Store has one client for the process. Questions of concurrent requests go
// out together over a few connections; each is one script run, which charges
// the whole stack or nothing, by Redis' own clock. Keys follow the one grammar
// of package ratelimit, whose braces keep a tenant in one slot.
//
// While Redis cannot be asked, or answers too slowly, a breaker keeps requests
// from trying: one probe in the background does. A Cluster has a queue and a
// breaker for each of 48 ranges of slots, so that a node that hangs takes no
// other's tenants along. In a queue tenants have their turns, and questions that
// are alike are one.
package redis

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/gatehouse-gateway/gatehouse"
)

// Options say where Redis is and how patient to be.
type Options struct {
	// URL is redis://[USER[:PASSWORD]@]HOST[:PORT][/DB], or rediss:// over TLS.
	// Several HOST:PORT parted by commas are the sentinels of
	// redis+sentinel://…/MASTER[/DB], or nodes of redis+cluster://…; with TLS
	// rediss+sentinel and rediss+cluster. Required.
	URL string
	// Username is an ACL user. Default: that of the URL.
	Username string
	// Password belongs to Username, or to the default user. Default: that of
	// the URL.
	Password gatehouse.Secret
	// SentinelUsername and SentinelPassword are for the sentinels alone.
	// Default: none.
	SentinelUsername string
	SentinelPassword gatehouse.Secret
	// CA are PEM certificates that servers' certificates must come from.
	// Default: those of the system.
	CA []byte
	// Connections is how many batches may be under way at once, of a Cluster
	// for each range of slots, each on a connection of its own. Default 4.
	Connections int
	// Wait is how long a request waits for its answer, and what a batch may
	// take before Redis is held for away. Default 50ms.
	Wait time.Duration
	// OnChange is called when a shard goes away or comes back, with the reason
	// of going, by the goroutine that found it so. It must not block. Nil:
	// nobody is told.
	OnChange func(shard int, away bool, reason error)
	// OnError is called with an error that is about one question only, and the
	// first key of that, at most once a second. It must not block. Nil: nobody
	// is told; Counts.Failed counts them.
	OnError func(key string, reason error)
}

const (
	defaultConnections = 4
	defaultWait        = 50 * time.Millisecond
	// poolSize is far above what is used, Connections and two: after as many
	// dials that failed the client would try but once a second.
	poolSize = 64
	// clusterShards are the ranges of slots with a breaker each: most numbers
	// of nodes divide it, so that a range lies on one node.
	clusterShards = 48
)

// ErrCA is what Check and Open wrap where the CA is at fault.
var ErrCA = errors.New("the CA")

// Check returns what is wrong with the options, without opening anything.
func (o *Options) Check() error {
	_, _, err := o.universal()
	return err
}

// Open returns a store that is ready once Run runs. It does not wait for
// Redis. The error is about the options.
func Open(o Options) (*Store, error) {
	if o.Connections <= 0 {
		o.Connections = defaultConnections
	}
	if o.Wait <= 0 {
		o.Wait = defaultWait
	}
	u, cluster, err := o.universal()
	if err != nil {
		return nil, fmt.Errorf("address of Redis: %w", err)
	}
	silence()
	shards := 1
	if cluster {
		shards = clusterShards
	}
	return newStore(o, redis.NewUniversalClient(u), shards), nil
}

// silence keeps the client from writing to standard error: engines do not log,
// and OnChange has the reason. Its logger is one for the process.
var silence = sync.OnceFunc(func() { redis.SetLogger(quiet{}) })

type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// universal reads the URL.
func (o *Options) universal() (_ *redis.UniversalOptions, cluster bool, _ error) {
	scheme, rest, ok := strings.Cut(o.URL, "://")
	base, kind, _ := strings.Cut(scheme, "+")
	if !ok || base != "redis" && base != "rediss" || kind != "" && kind != "sentinel" && kind != "cluster" {
		return nil, false, errors.New("redis://, rediss://, redis+sentinel:// or redis+cluster:// is expected")
	}
	rest, path, _ := strings.Cut(rest, "/")
	if strings.Contains(path, "@") {
		return nil, false, errors.New("a / in user or password is written %2F") // more would show it
	}
	u := &redis.UniversalOptions{
		Username: o.Username, Password: string(o.Password),
		SentinelUsername: o.SentinelUsername, SentinelPassword: string(o.SentinelPassword),
		Protocol: 2, DisableIdentity: true, MaxRetries: -1,
		DialTimeout: 4 * o.Wait, DialerRetries: 1, ReadTimeout: 4 * o.Wait, WriteTimeout: 4 * o.Wait,
		PoolSize: poolSize, MinIdleConns: 1, PoolTimeout: 4 * o.Wait,
		IsClusterMode:            kind == "cluster",
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if at := strings.LastIndex(rest, "@"); at >= 0 {
		info, err := url.Parse("redis://" + rest[:at] + "@h")
		if err != nil {
			return nil, false, errors.New("user or password is not written as in a URL") // the error would show it
		}
		if o.Username == "" {
			u.Username = info.User.Username()
		}
		if secret, has := info.User.Password(); has && len(o.Password) == 0 {
			u.Password = secret
		}
		rest = rest[at+1:]
	}
	u.Addrs = strings.Split(rest, ",")
	for i, addr := range u.Addrs {
		if addr == "" {
			return nil, false, errors.New("a host is missing")
		}
		if !strings.Contains(addr[strings.LastIndex(addr, "]")+1:], ":") {
			u.Addrs[i] = addr + map[bool]string{false: ":6379", true: ":26379"}[kind == "sentinel"]
		}
	}
	switch {
	case kind == "sentinel":
		u.MasterName, path, _ = strings.Cut(path, "/")
		if u.MasterName == "" {
			return nil, false, errors.New("the name of the master is missing: redis+sentinel://HOST/NAME")
		}
	case kind == "" && len(u.Addrs) > 1:
		return nil, false, errors.New("several hosts are for redis+sentinel:// or redis+cluster://")
	case kind == "cluster" && path != "":
		return nil, false, errors.New("a Cluster has one database only")
	}
	if path != "" {
		db, err := strconv.ParseUint(path, 10, 16)
		if err != nil {
			return nil, false, fmt.Errorf("database %q is not a number", path)
		}
		u.DB = int(db)
	}
	if base == "rediss" {
		u.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		if len(o.CA) > 0 {
			u.TLSConfig.RootCAs = x509.NewCertPool()
			if !u.TLSConfig.RootCAs.AppendCertsFromPEM(o.CA) {
				return nil, false, fmt.Errorf("%w has no certificate", ErrCA)
			}
		}
	} else if len(o.CA) > 0 {
		return nil, false, fmt.Errorf("%w is for rediss://", ErrCA)
	}
	return u, kind == "cluster", nil
}
