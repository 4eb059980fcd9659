package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse-gateway/gatehouse/metering/database"
)

// Config says where a journal is and what it knows about what it keeps.
type Config struct {
	// Address is a file path for SQLite, or a URL that begins with
	// postgres:// or postgresql://.
	Address string
	// Index is what lists can be filtered by; nil for what the journal has
	// been filtered by so far.
	Index Index
	// Guard sees each change before it is written; its error refuses the
	// change. It is where secrets are kept out. It may be nil, and is called
	// from many goroutines.
	Guard func(Change) error
	// Clock is time.Now when nil.
	Clock func() time.Time
}

// Journal is an open journal. Its Reader's methods see the latest state, each
// call for itself; Snapshot gives several calls the same state.
type Journal struct {
	Reader
	store store
	guard func(Change) error
	clock func() time.Time

	// turn holds a token while this process writes.
	turn chan struct{}

	mu     sync.Mutex
	queue  []*pending    // guarded by mu; changes that wait for a transaction
	news   chan struct{} // guarded by mu; closed, and replaced, when there may be new events
	closed bool          // guarded by mu

	stop      context.CancelFunc
	listening sync.WaitGroup
}

// pending is a change that waits. result gets one value.
type pending struct {
	ctx    context.Context //nolint:containedctx // whether the caller still waits
	change Change
	result chan result
}

type result struct {
	event Event
	err   error
}

// Bounds of one transaction: changes, and bytes of their bodies.
const (
	batchChanges = 256
	batchBytes   = 16 << 20
)

// Open opens the journal at c.Address, making it or bringing its tables up to
// date where needed. The caller closes it.
func Open(ctx context.Context, c Config) (*Journal, error) {
	if err := c.Index.check(); err != nil {
		return nil, err
	}
	s, err := openStore(ctx, c.Address)
	if err != nil && database.IsPostgres(c.Address) {
		return nil, fmt.Errorf("open journal on PostgreSQL: %w", err) // the address may hold a password
	}
	if err != nil {
		return nil, fmt.Errorf("open journal %s: %w", c.Address, err)
	}
	j := &Journal{
		Reader: Reader{s.reading(), c.Index},
		store:  s, guard: c.Guard, clock: c.Clock,
		turn: make(chan struct{}, 1), news: make(chan struct{}),
	}
	if j.clock == nil {
		j.clock = time.Now
	}
	if j.index == nil {
		j.index, err = storedIndex(ctx, j.q)
	} else {
		err = j.reindex(ctx)
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("index the journal: %w", err)
	}
	listen, stop := context.WithCancel(context.Background())
	j.stop = stop
	j.listening.Go(func() { s.listen(listen, j.wake) })
	return j, nil
}

// Close ends all watches and closes the store. Commits under way are finished
// first; later calls fail.
func (j *Journal) Close() error {
	j.turn <- struct{}{}
	defer func() { <-j.turn }()
	j.mu.Lock()
	was := j.closed
	j.closed = true
	j.mu.Unlock()
	if was {
		return nil
	}
	j.stop()
	j.wake()
	j.listening.Wait()
	return j.store.close()
}

var errClosed = errors.New("the journal is closed")

// Commit makes c an event and returns it when it is durable. Errors are
// *StaleError, *ExistsError, *NotFoundError, ErrMismatch, ErrInvalid, c.Refusal
// and what Guard returned, when c was refused; ErrReplayed with the first event; and
// ErrFull, ErrUnknown or what the store says. But for ErrReplayed and
// ErrUnknown an error means that nothing was written. A ctx that ends before
// c's turn has come takes it back.
func (j *Journal) Commit(ctx context.Context, c Change) (Event, error) {
	c, err := c.prepare()
	if err != nil {
		return Event{}, err
	}
	if j.guard != nil {
		if err := j.guard(c); err != nil {
			return Event{}, err
		}
	}
	p := &pending{ctx, c, make(chan result, 1)}
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return Event{}, errClosed
	}
	j.queue = append(j.queue, p)
	j.mu.Unlock()
	for {
		select {
		case r := <-p.result:
			return j.first(ctx, r)
		case <-ctx.Done():
			if j.takeBack(p) {
				return Event{}, ctx.Err()
			}
			return j.first(context.WithoutCancel(ctx), <-p.result) // it is being written
		case j.turn <- struct{}{}:
			j.write(ctx, j.next())
			<-j.turn
		}
	}
}

// takeBack takes p off the queue and tells whether it was there.
func (j *Journal) takeBack(p *pending) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := len(j.queue)
	j.queue = slices.DeleteFunc(slices.Clone(j.queue), func(q *pending) bool { return q == p })
	return len(j.queue) < n
}

// first returns r, with the whole event when it is a replay.
func (j *Journal) first(ctx context.Context, r result) (Event, error) {
	if !errors.Is(r.err, ErrReplayed) {
		return r.event, r.err
	}
	e, err := j.Event(ctx, r.event.Seq)
	if err != nil {
		return Event{}, err
	}
	return e, ErrReplayed
}

// next takes changes off the queue, in order, at least one when there is one.
func (j *Journal) next() []*pending {
	j.mu.Lock()
	defer j.mu.Unlock()
	n, size := 0, 0
	for ; n < min(len(j.queue), batchChanges); n++ {
		for _, p := range j.queue[n].change.Puts {
			size += len(p.Body)
		}
		if size > batchBytes && n > 0 {
			break
		}
	}
	batch := j.queue[:n:n]
	j.queue = j.queue[n:]
	return batch
}

// write decides the changes in one transaction and answers each. The caller
// has the turn. What becomes of the others' changes does not depend on its
// context.
func (j *Journal) write(ctx context.Context, waiting []*pending) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	b := newBatch(j.index)
	var live []*pending
	for _, p := range waiting {
		if err := p.ctx.Err(); err != nil {
			p.result <- result{err: err}
			continue
		}
		live = append(live, p)
		b.want(&p.change)
	}
	if len(live) == 0 {
		return
	}
	results := make([]result, len(live))
	err := j.transact(ctx, b, func(tx) error {
		for i, p := range live {
			results[i].event, results[i].err = b.add(&p.change, j.clock())
		}
		return nil
	})
	for i, p := range live {
		if err != nil && results[i].err == nil {
			results[i] = result{err: fmt.Errorf("write event: %w", err)}
		}
		p.result <- results[i]
	}
	if err == nil && len(b.records) > 0 {
		j.wake()
	}
}

// transact loads b, calls f and saves b, in one writing transaction. The
// caller has the turn. Nothing is written when f leaves b as it was.
func (j *Journal) transact(ctx context.Context, b *batch, f func(tx) error) error {
	t, err := j.store.begin(ctx)
	if err != nil {
		return j.named(err)
	}
	defer t.end()
	if err := t.load(ctx, b); err != nil {
		return j.named(err)
	}
	seq := b.seq
	if err := f(t); err != nil {
		return err
	}
	if b.seq == seq {
		return nil
	}
	if err := t.save(ctx, b); err != nil {
		return j.named(err)
	}
	return j.commit(ctx, t)
}

func (j *Journal) commit(ctx context.Context, t tx) error {
	certain, err := t.commit(ctx)
	if err != nil && !certain {
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	return j.named(err)
}

// named makes a full disk ErrFull.
func (j *Journal) named(err error) error {
	if err != nil && database.IsFull(err) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

// wake tells the watchers that there may be new events.
func (j *Journal) wake() {
	j.mu.Lock()
	defer j.mu.Unlock()
	close(j.news)
	j.news = make(chan struct{})
}
