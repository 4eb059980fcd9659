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

// Store is Redis as a ratelimit.Store. It is safe for concurrent use. Run must
// run for it to answer.
type Store struct {
	opts     Options
	client   redis.UniversalClient
	gateway  string // the name of this one
	shards   []shard
	gateways atomic.Int64
	take     script
	keep     script
	skew     atomic.Int64 // µs that Redis' clock was last seen ahead of ours
	trips    atomic.Int64 // batches sent
	calls    atomic.Int64 // questions in them
	failed   atomic.Int64 // of these, failed by themselves
	settled  atomic.Bool  // every other gateway has heard of this one
	told     atomic.Int64 // when OnError was last called, in ns since 1970
}

// shard is a part of Redis that is asked, and may be away, by itself.
type shard struct {
	breaker
	queue queue
}

func newStore(o Options, c redis.UniversalClient, shards int) *Store {
	var name [8]byte
	_, _ = rand.Read(name[:]) // it never fails
	s := &Store{
		opts: o, client: c, gateway: hex.EncodeToString(name[:]), shards: make([]shard, shards),
		take: script{sha(takeSource), takeSource}, keep: script{sha(keepSource), keepSource},
	}
	for i := range s.shards {
		s.shards[i].queue = queue{work: make(chan struct{}, 1), lines: map[string]*line{}}
	}
	s.gateways.Store(1)
	return s
}

// Run answers until ctx ends. It returns nil then, and never earlier. What is
// submitted afterwards is answered as away.
func (s *Store) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for i := range s.shards {
		for range s.opts.Connections {
			wg.Go(func() { s.serve(ctx, &s.shards[i].queue) })
		}
	}
	wg.Go(func() { s.beat(ctx) })
	wg.Go(func() { s.probe(ctx) })
	wg.Wait()
	for i := range s.shards {
		for _, c := range s.shards[i].queue.close() {
			c.Answer(ratelimit.ErrAway)
		}
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
	// Calls are the questions sent, in Trips round trips. Failed are those of
	// them that Redis could not answer although it can be asked.
	Calls, Trips, Failed int64
	// Away is how many shards cannot be asked now, of Shards.
	Away, Shards int
}

// Counts returns what has happened so far.
func (s *Store) Counts() Counts {
	c := Counts{Calls: s.calls.Load(), Trips: s.trips.Load(), Failed: s.failed.Load(), Shards: len(s.shards)}
	for i := range s.shards {
		if s.Away(i) {
			c.Away++
		}
	}
	return c
}

// Settled reports whether every other gateway has had the time to hear of this
// one. Until then it takes nothing ahead.
func (s *Store) Settled() bool { return s.settled.Load() }

// Submit puts a call into the queue of its shard.
func (s *Store) Submit(c *ratelimit.Call) {
	q := &s.shards[c.Shard].queue
	err := q.add(c)
	switch {
	case err == nil:
		q.wake()
	case c.Async():
		// Never on the goroutine of the caller, which holds what Answer needs.
		go c.Answer(err)
	default:
		c.Answer(err)
	}
}

// serve sends what is in the queue of a shard, batch by batch.
func (s *Store) serve(ctx context.Context, q *queue) {
	var w worker
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.work:
		}
		for s.next(q, &w) {
			s.send(ctx, &w)
		}
	}
}

// worker is what one connection needs for a batch.
type worker struct {
	calls  []*ratelimit.Call
	groups []group
}

// group is calls that ask for the same, and the command that does.
type group struct {
	calls []*ratelimit.Call
	cmd   *redis.Cmd
}

// next takes the next batch from the queue, and puts what is alike together.
// Calls that nobody waits for any more, or whose shard is away, are answered
// without Redis.
func (s *Store) next(q *queue, w *worker) bool {
	var more bool
	w.calls, more = q.next(w.calls[:0])
	if more {
		q.wake() // another connection may help
	}
	n := len(w.calls)
	kept := w.calls[:0]
	for _, c := range w.calls {
		if s.Away(c.Shard) || time.Since(c.Made) > s.opts.Wait && c.Asks[0].Action == ratelimit.Take && !c.Async() {
			c.Answer(ratelimit.ErrAway)
			continue
		}
		kept = append(kept, c)
	}
	clear(w.calls[len(kept):])
	w.calls = kept
	w.group()
	return n > 0
}

// group puts calls that are alike together.
func (w *worker) group() {
	w.groups = w.groups[:0]
	byKey := map[string]int{}
	for _, c := range w.calls {
		key := c.Asks[0].Key
		if i, ok := byKey[key]; ok && alike(w.groups[i].calls[0], c) {
			w.groups[i].calls = append(w.groups[i].calls, c)
			continue
		}
		byKey[key] = len(w.groups)
		w.groups = append(w.groups, group{calls: []*ratelimit.Call{c}})
	}
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
	s.pipeline(ctx, w, false)
	if w.missing() {
		s.pipeline(ctx, w, true)
	}
	for range staleTries {
		if !s.stale(w) {
			break
		}
		s.pipeline(ctx, w, false)
	}
	took := time.Since(began)
	for i := range w.groups {
		g := &w.groups[i]
		err := g.cmd.Err()
		if err == nil {
			err = decode(g.calls, g.cmd)
		}
		s.report(g.calls[0], trip, took, err)
		for _, c := range g.calls {
			c.Answer(err)
		}
	}
	clear(w.calls)
	clear(w.groups)
}

// staleTries is how often a question is asked anew whose windows were over
// when Redis read it.
const staleTries = 3

// script is a Lua program and the name that Redis gives it.
type script struct{ sha, source string }

// pipeline sends the groups of w that have no command, or one whose script was
// missing or whose windows were over.
func (s *Store) pipeline(ctx context.Context, w *worker, whole bool) {
	p := s.client.Pipeline()
	for i := range w.groups {
		if g := &w.groups[i]; g.cmd == nil {
			g.cmd = s.encode(ctx, p, g.calls, whole)
		}
	}
	_, _ = p.Exec(ctx) // each command has its error
}

// missing reports whether scripts have to be sent whole, and clears their
// commands.
func (w *worker) missing() (any bool) {
	for i := range w.groups {
		if g := &w.groups[i]; redis.HasErrorPrefix(g.cmd.Err(), "NOSCRIPT") {
			g.cmd, any = nil, true
		}
	}
	return any
}

var (
	errStale  = errors.New("the clock of Redis is in none of the windows")
	errUnread = errors.New("answer of Redis cannot be read")
	errShort  = errors.New("answer of Redis has another length")
)

// answers is how many numbers take.lua returns of each count.
const answers = 6

// decode reads the answer of a script into the calls that it was run for: the
// first so many of them were charged.
func decode(calls []*ratelimit.Call, cmd *redis.Cmd) error {
	if !runsTake(&calls[0].Asks[0]) {
		calls[0].Allowed = true
		return nil
	}
	v, err := cmd.Int64Slice()
	if err != nil {
		return fmt.Errorf("%w: %w", errUnread, err)
	}
	if len(v) < 2 {
		return errShort
	}
	charged := int(v[1])
	if charged < 0 {
		calls[0].At = v[0]
		return errStale
	}
	if len(v) != 2+answers*len(calls[0].Asks) {
		return errShort
	}
	for n, c := range calls {
		c.At, c.Allowed = v[0], n < charged
		for i := range c.Asks {
			a, r := &c.Asks[i], v[2+answers*i:]
			a.OK, a.Left, a.Begin, a.End = c.Allowed || r[0] == 1, r[2], r[3], r[4]
			if n == 0 { // what was wanted besides was for the first
				a.Got, a.Over = r[1], r[5]
			}
			// What was left after this one, as if they had come one by one.
			after := int64(max(charged-1-n, 0)) * a.Cost
			switch a.Kind {
			case ratelimit.Rate:
				a.Left += after * a.Terms.Per
			case ratelimit.Quota:
				a.Left -= after
			}
		}
	}
	return nil
}

// stale reports whether questions have to be asked anew, with the windows of
// Redis' time, and clears their commands.
func (s *Store) stale(w *worker) (any bool) {
	for i := range w.groups {
		g := &w.groups[i]
		if g.cmd.Err() == nil && errors.Is(decode(g.calls, g.cmd), errStale) {
			s.skew.Store(g.calls[0].At - time.Now().UnixMicro())
			g.cmd, any = nil, true
		}
	}
	return any
}
