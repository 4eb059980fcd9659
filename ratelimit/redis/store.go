package redis

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/ratelimit"
)

// batch is how many questions go out together at most.
const batch = 256

// Store is Redis as a ratelimit.Store. It is safe for concurrent use. Run must
// run for it to answer.
type Store struct {
	opts     Options
	client   redis.UniversalClient
	gateway  string // the name of this one
	shards   []breaker
	gateways atomic.Int64
	take     script
	keep     script
	skew     atomic.Int64 // µs that Redis' clock was last seen ahead of ours
	trips    atomic.Int64 // batches sent
	calls    atomic.Int64 // questions in them

	mu     sync.Mutex
	queue  []*ratelimit.Call // guarded by mu
	closed bool              // guarded by mu: nothing is taken any more
	work   chan struct{}     // has an element while queue may have one
}

func newStore(o Options, c redis.UniversalClient, shards int) *Store {
	var name [8]byte
	_, _ = rand.Read(name[:]) // it never fails
	s := &Store{
		opts: o, client: c, gateway: hex.EncodeToString(name[:]), shards: make([]breaker, shards),
		take: script{sha(takeSource), takeSource}, keep: script{sha(keepSource), keepSource},
		work: make(chan struct{}, 1),
	}
	s.gateways.Store(1)
	return s
}

// Run answers until ctx ends. It returns nil then, and never earlier. What is
// submitted afterwards is answered as away.
func (s *Store) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for range s.opts.Connections {
		wg.Go(func() { s.serve(ctx) })
	}
	wg.Go(func() { s.beat(ctx) })
	wg.Go(func() { s.probe(ctx) })
	wg.Wait()
	s.mu.Lock()
	s.closed = true
	left := s.queue
	s.queue = nil
	s.mu.Unlock()
	for _, c := range left {
		c.Answer(ratelimit.ErrAway)
	}
	return nil
}

// Close lets go of the connections. Run must have ended.
func (s *Store) Close() error { return s.client.Close() }

// Gateways returns how many gateways were last seen alive.
func (s *Store) Gateways() int64 { return s.gateways.Load() }

// Patience is Options.Wait.
func (s *Store) Patience() time.Duration { return s.opts.Wait }

// Away reports whether the breaker of the shard is open.
func (s *Store) Away(shard int) bool { return s.shards[shard].open.Load() }

// Shard returns the breaker that the tenant's slot belongs to.
func (s *Store) Shard(t gatehouse.TenantID) int {
	return int(slot(string(t))) * len(s.shards) / slots
}

// Counts are sums since the start of the process.
type Counts struct {
	// Calls are the questions sent, in Trips round trips.
	Calls, Trips int64
	// Away is how many shards cannot be asked now, of Shards.
	Away, Shards int
}

// Counts returns what has happened so far.
func (s *Store) Counts() Counts {
	c := Counts{Calls: s.calls.Load(), Trips: s.trips.Load(), Shards: len(s.shards)}
	for i := range s.shards {
		if s.Away(i) {
			c.Away++
		}
	}
	return c
}

// Submit puts a call into the queue.
func (s *Store) Submit(c *ratelimit.Call) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		// Never on the goroutine of the caller, which may hold what Answer
		// needs.
		go c.Answer(ratelimit.ErrAway)
		return
	}
	s.queue = append(s.queue, c)
	s.mu.Unlock()
	s.wake()
}

func (s *Store) wake() {
	select {
	case s.work <- struct{}{}:
	default:
	}
}

// serve sends what is in the queue, batch by batch.
func (s *Store) serve(ctx context.Context) {
	var w worker
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.work:
		}
		for s.next(&w) {
			s.send(ctx, &w)
		}
	}
}

// worker is what one connection needs for a batch.
type worker struct {
	calls []*ratelimit.Call
	cmds  []*redis.Cmd
}

// next takes the next batch from the queue. Calls that nobody waits for any
// more, or whose shard is away, are answered without Redis.
func (s *Store) next(w *worker) bool {
	s.mu.Lock()
	n := min(len(s.queue), batch)
	w.calls = append(w.calls[:0], s.queue[:n]...)
	rest := copy(s.queue, s.queue[n:])
	clear(s.queue[rest:])
	s.queue = s.queue[:rest]
	s.mu.Unlock()
	if rest > 0 {
		s.wake() // another connection may help
	}
	kept := w.calls[:0]
	for _, c := range w.calls {
		if s.Away(c.Shard) || time.Since(c.Made) > s.opts.Wait && c.Asks[0].Action == ratelimit.Take {
			c.Answer(ratelimit.ErrAway)
			continue
		}
		kept = append(kept, c)
	}
	clear(w.calls[len(kept):])
	w.calls = kept
	return n > 0
}

// send asks Redis about a batch and answers it.
func (s *Store) send(ctx context.Context, w *worker) {
	if len(w.calls) == 0 {
		return
	}
	began := time.Now()
	trip := s.trips.Add(1)
	s.calls.Add(int64(len(w.calls)))
	ctx = context.WithoutCancel(ctx) // the last batch is answered too
	s.pipeline(ctx, w, eval{run: redis.Pipeliner.EvalSha})
	if w.missing() {
		s.pipeline(ctx, w, eval{redis.Pipeliner.Eval, true})
	}
	for range staleTries {
		if !s.stale(w) {
			break
		}
		s.pipeline(ctx, w, eval{run: redis.Pipeliner.EvalSha})
	}
	took := time.Since(began)
	for i, c := range w.calls {
		err := w.cmds[i].Err()
		if err == nil {
			err = decode(c, w.cmds[i])
		}
		s.shards[c.Shard].report(s, c, trip, took, err)
		c.Answer(err)
	}
	clear(w.calls)
	clear(w.cmds)
}

// staleTries is how often a question is asked anew whose windows were over
// when Redis read it.
const staleTries = 3

// script is a Lua program and the name that Redis gives it.
type script struct{ sha, source string }

// eval is how scripts are sent: by name, or whole where Redis does not have
// them.
type eval struct {
	run   func(p redis.Pipeliner, ctx context.Context, script string, keys []string, args ...any) *redis.Cmd
	whole bool
}

// pipeline sends the calls of w that have no command, or one whose script was
// missing or whose windows were over.
func (s *Store) pipeline(ctx context.Context, w *worker, how eval) {
	w.cmds = append(w.cmds, make([]*redis.Cmd, max(len(w.calls)-len(w.cmds), 0))...)[:len(w.calls)]
	p := s.client.Pipeline()
	for i, c := range w.calls {
		if w.cmds[i] == nil {
			w.cmds[i] = s.encode(ctx, p, c, how)
		}
	}
	_, _ = p.Exec(ctx) // each command has its error
}

// missing reports whether scripts have to be sent whole, and clears their
// commands.
func (w *worker) missing() (any bool) {
	for i, cmd := range w.cmds {
		if redis.HasErrorPrefix(cmd.Err(), "NOSCRIPT") {
			w.cmds[i], any = nil, true
		}
	}
	return any
}

var (
	errStale = errors.New("the clock of Redis is in none of the windows")
	errShort = errors.New("answer of Redis has another length")
)

// decode reads the answer of a script into the call.
func decode(c *ratelimit.Call, cmd *redis.Cmd) error {
	if a := &c.Asks[0]; !runsTake(a) {
		c.Allowed = true
		return nil
	}
	v, err := cmd.Int64Slice()
	if err != nil {
		return fmt.Errorf("read answer of Redis: %w", err)
	}
	if len(v) < 2 {
		return errShort
	}
	c.At = v[0]
	if v[1] < 0 {
		return errStale
	}
	if len(v) != 2+5*len(c.Asks) {
		return errShort
	}
	c.Allowed = v[1] == 1
	for i := range c.Asks {
		a, r := &c.Asks[i], v[2+5*i:]
		a.OK, a.Got, a.Left, a.Begin, a.End = r[0] == 1, r[1], r[2], r[3], r[4]
	}
	return nil
}

// stale reports whether questions have to be asked anew, with the windows of
// Redis' time, and clears their commands.
func (s *Store) stale(w *worker) (any bool) {
	for i, cmd := range w.cmds {
		if cmd.Err() == nil && errors.Is(decode(w.calls[i], cmd), errStale) {
			s.skew.Store(w.calls[i].At - time.Now().UnixMicro())
			w.cmds[i], any = nil, true
		}
	}
	return any
}
