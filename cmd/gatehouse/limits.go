package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/proxy"
	"github.com/gatehouse-gateway/gatehouse/ratelimit"
	"github.com/gatehouse-gateway/gatehouse/ratelimit/redis"
)

// limitsConfig says where limits are counted, and how they are told.
type limitsConfig struct {
	// Redis is redis://, rediss://, redis+sentinel:// or redis+cluster://, as
	// redis.Options.URL has it. Default none: limits are counted in memory.
	Redis string `json:"redis"`
	// Mode is lease (default) or exact: how Redis counts the limits that do
	// not say.
	Mode gatehouse.LimitStore `json:"mode"`
	// Headers is ietf (default), draft03, x or off.
	Headers proxy.HeaderStyle `json:"headers"`
	// Options are for Redis.
	Options redisConfig `json:"redis_options"`
}

// redisConfig is what the URL of Redis does not say.
type redisConfig struct {
	// Username is an ACL user. Default: that of the URL.
	Username string `json:"username"`
	// PasswordFile holds its password. Default: that of the URL.
	PasswordFile string `json:"password_file"`
	// SentinelUsername and SentinelPasswordFile are for the sentinels alone.
	SentinelUsername     string `json:"sentinel_username"`
	SentinelPasswordFile string `json:"sentinel_password_file"`
	// CAFile holds the certificates that those of the servers must come from,
	// in PEM. Default: those of the system.
	CAFile string `json:"ca_file"`
	// Connections is how many batches may be under way, 1 to 64. Default 4.
	Connections int `json:"connections"`
	// Wait is how long a request waits for Redis, 1ms to 5s. Default 50ms.
	Wait gatehouse.Duration `json:"wait"`
}

func defaultRedis() redisConfig {
	return redisConfig{Connections: 4, Wait: gatehouse.Duration(50 * time.Millisecond)}
}

// validate returns what is wrong with the section, with pointers from the root.
func (c *limitsConfig) validate() gatehouse.Faults {
	var fs gatehouse.Faults
	fault := func(bad bool, at, reason, hint string) {
		if bad {
			fs = append(fs, gatehouse.Fault{Pointer: "/limits/" + at, Reason: reason, Hint: hint})
		}
	}
	fault(c.Mode != gatehouse.StoreLease && c.Mode != gatehouse.StoreExact, "mode", fmt.Sprintf("mode %q is unknown", c.Mode), "use exact or lease")
	if c.Redis == "" {
		fault(c.Mode == gatehouse.StoreExact, "mode", "mode exact is about a shared store, and there is none", "name it in limits.redis, or leave mode out: limits in memory are exact")
		fault(c.Options != defaultRedis(), "redis_options", "redis_options are about a shared store, and there is none", "name it in limits.redis, or leave them out")
		return fs
	}
	o := &c.Options
	fault(o.Connections < 1 || o.Connections > 64, "redis_options/connections", "connections is outside 1 to 64", "")
	fault(o.Wait < gatehouse.Duration(time.Millisecond) || o.Wait > gatehouse.Duration(5*time.Second), "redis_options/wait", "wait is outside 1ms to 5s", "")
	options, more := c.options()
	if fs = append(fs, more...); len(more) == 0 {
		if err := options.Check(); err != nil {
			at := "redis"
			if errors.Is(err, redis.ErrCA) {
				at = "redis_options/ca_file"
			}
			fault(true, at, err.Error(), "")
		}
	}
	return fs
}

// options reads the files that the section names.
func (c *limitsConfig) options() (o redis.Options, fs gatehouse.Faults) {
	read := func(key, name string) []byte {
		if name == "" {
			return nil
		}
		b, err := os.ReadFile(name)
		if err != nil {
			fs = append(fs, gatehouse.Fault{Pointer: "/limits/redis_options/" + key, Reason: fmt.Sprintf("%s: cannot be read: %v", name, fileReason(err))})
		} else if len(bytes.TrimSpace(b)) == 0 {
			fs = append(fs, gatehouse.Fault{Pointer: "/limits/redis_options/" + key, Reason: name + " is empty"})
		}
		return b
	}
	secret := func(key, name string) gatehouse.Secret { return gatehouse.Secret(bytes.TrimSpace(read(key, name))) }
	r := &c.Options
	o = redis.Options{
		URL: c.Redis, Username: r.Username, Password: secret("password_file", r.PasswordFile),
		SentinelUsername: r.SentinelUsername, SentinelPassword: secret("sentinel_password_file", r.SentinelPasswordFile),
		CA: read("ca_file", r.CAFile), Connections: r.Connections, Wait: r.Wait.Or(0),
	}
	return o, fs
}

// fileReason is the reason within an error that names a file already.
func fileReason(err error) error {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err
	}
	return err
}

// limits is the process' part in a shared store of limits. A nil one counts in
// memory.
type limits struct {
	store  *redis.Store
	shared *ratelimit.Shared
}

// openLimits does not wait for Redis: while it is away, limits do what they
// say, and log tells.
func openLimits(c *limitsConfig, log *slog.Logger) (*limits, error) {
	if c.Redis == "" {
		return nil, nil //nolint:nilnil // counting in memory is no error
	}
	o, faults := c.options()
	if len(faults) > 0 {
		return nil, faults
	}
	o.OnChange = func(shard int, away bool, reason error) {
		if away {
			log.Warn("the store of limits is away; each limit does what its away says", "shard", shard, "error", reason)
			return
		}
		log.Info("the store of limits is back", "shard", shard)
	}
	store, err := redis.Open(o)
	if err != nil {
		return nil, err
	}
	return &limits{store, ratelimit.NewShared(store, c.Mode)}, nil
}

// part returns what the gateway takes of it.
func (l *limits) part() *ratelimit.Shared {
	if l == nil {
		return nil
	}
	return l.shared
}

// run asks Redis until ctx ends, gives back what is held, and closes.
func (l *limits) run(ctx context.Context) error {
	if l == nil {
		return nil
	}
	storing, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var store sync.WaitGroup
	var failed error
	store.Go(func() { failed = l.store.Run(storing) })
	err := l.shared.Run(ctx)
	stop()
	store.Wait()
	return errors.Join(err, failed, l.store.Close())
}

// close ends what has not been run.
func (l *limits) close() {
	if l != nil {
		_ = l.store.Close() // nothing was asked
	}
}

// writeMetrics writes what the store has been asked. Without one all is 0.
func (l *limits) writeMetrics(w io.Writer) {
	var c redis.Counts
	gateways := int64(1)
	if l != nil {
		c, gateways = l.store.Counts(), l.store.Gateways()
	}
	metrics.WriteCounterUint64(w, "gatehouse_ratelimit_store_calls_total", uint64(c.Calls))
	metrics.WriteCounterUint64(w, "gatehouse_ratelimit_store_trips_total", uint64(c.Trips))
	metrics.WriteGaugeUint64(w, "gatehouse_ratelimit_store_shards", uint64(c.Shards))
	metrics.WriteGaugeUint64(w, "gatehouse_ratelimit_store_shards_away", uint64(c.Away))
	metrics.WriteGaugeUint64(w, "gatehouse_ratelimit_gateways", uint64(gateways))
}
