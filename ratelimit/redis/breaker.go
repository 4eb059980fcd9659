package redis

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gatehouse-gateway/gatehouse/ratelimit"
)

const (
	// failures in a row, of batches that failed or took too long, open a
	// breaker.
	failures = 3
	// Probes are as far apart as this at first, and twice as far each time;
	// each up to half as long again, so that gateways do not probe together.
	firstProbe = 100 * time.Millisecond
	lastProbe  = time.Second
)

var errSlow = errors.New("Redis answers too slowly") //nolint:staticcheck // a name begins the sentence

// breaker says whether a shard may be asked.
type breaker struct {
	open atomic.Bool // written with mu
	bad  atomic.Bool // failed is not 0; written with mu

	mu     sync.Mutex
	failed int    // guarded by mu: batches in a row
	batch  int64  // guarded by mu: the last one that counted
	key    string // guarded by mu: in the shard, to probe with
	next   time.Time
	pause  time.Duration
	trying bool // guarded by mu: a probe is under way
}

// report takes in how calls of a batch went.
func (s *Store) report(c *ratelimit.Call, trip int64, took time.Duration, err error) {
	b := &s.shards[c.Shard].breaker
	if err != nil && !errors.Is(err, errStale) && !ofServer(err) {
		// It is about this question; others are answered.
		s.failed.Add(1)
		now := time.Now().UnixNano()
		if last := s.told.Load(); s.opts.OnError != nil && now-last >= int64(time.Second) && s.told.CompareAndSwap(last, now) {
			s.opts.OnError(c.Asks[0].Key, err)
		}
		return
	}
	if err == nil && took <= s.opts.Wait {
		if b.bad.Load() {
			b.mu.Lock()
			b.failed = 0
			b.bad.Store(false)
			b.mu.Unlock()
		}
		return
	}
	if errors.Is(err, errStale) {
		return // Redis answers; the clocks are apart
	}
	if err == nil {
		err = errSlow
	}
	b.mu.Lock()
	b.bad.Store(true)
	if trip != b.batch {
		b.batch = trip
		b.failed++
	}
	enough := b.failed >= failures
	b.mu.Unlock()
	if enough {
		b.trip(s, c.Shard, tag(c.Asks[0].Key)+"probe", err)
	}
}

// ofServer reports whether an error says that Redis cannot be asked, and not
// that one question cannot be answered.
func ofServer(err error) bool {
	if errors.Is(err, errShort) {
		return false
	}
	if _, answered := errors.AsType[redis.Error](err); !answered {
		return !errors.Is(err, errUnread) // the connection failed, or the time was over
	}
	for _, state := range []string{
		"LOADING", "READONLY", "CLUSTERDOWN", "MASTERDOWN", "NOAUTH", "WRONGPASS", "NOPERM", "MISCONF", "NOREPLICAS", "BUSY",
		"max number of clients", "ERR max number of clients",
	} {
		if redis.HasErrorPrefix(err, state) {
			return true
		}
	}
	return false
}

// trip opens the breaker of a shard, to be probed with key.
func (b *breaker) trip(s *Store, shard int, key string, err error) {
	b.mu.Lock()
	tripped := !b.open.Load()
	if tripped {
		b.open.Store(true)
		b.key = key
		b.pause = firstProbe
		b.next = time.Now().Add(jitter(b.pause))
	}
	b.mu.Unlock()
	if tripped && s.opts.OnChange != nil {
		s.opts.OnChange(shard, true, err)
	}
}

func jitter(d time.Duration) time.Duration { return d + rand.N(d/2) }

// probe tries shards that are away, until ctx ends.
func (s *Store) probe(ctx context.Context) {
	tick := time.NewTicker(firstProbe / 4)
	defer tick.Stop()
	var wg sync.WaitGroup // of a shard that hangs no other has to wait
	defer wg.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for i := range s.shards {
			if b := &s.shards[i].breaker; b.due() {
				wg.Go(func() { b.try(ctx, s, i) })
			}
		}
	}
}

// due reports whether the time of a probe has come, and takes it.
func (b *breaker) due() bool {
	if !b.open.Load() {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.trying || !time.Now().After(b.next) {
		return false
	}
	b.trying = true
	return true
}

// try probes an open breaker. A write that is answered in time closes it.
func (b *breaker) try(ctx context.Context, s *Store, shard int) {
	b.mu.Lock()
	key := b.key
	b.mu.Unlock()
	began := time.Now()
	err := s.client.Set(ctx, key, "1", time.Second).Err()
	if err == nil {
		// The connection may have been new: this time counts.
		began = time.Now()
		err = s.client.Set(ctx, key, "1", time.Second).Err()
	}
	back := err == nil && time.Since(began) <= s.opts.Wait
	b.mu.Lock()
	b.trying = false
	if back {
		b.failed = 0
		b.bad.Store(false)
		b.open.Store(false)
	} else {
		b.pause = min(2*b.pause, lastProbe)
		b.next = time.Now().Add(jitter(b.pause))
	}
	b.mu.Unlock()
	if back && s.opts.OnChange != nil {
		s.opts.OnChange(shard, false, nil)
	}
}
