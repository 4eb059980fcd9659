// Package tunnel is what happens to two connections once client and backend
// have agreed to leave HTTP: bytes pass both ways, unchanged, until one side
// ends, time is over, or the gateway drains.
//
// WebSocket frames are followed (RFC 6455, 5.2), never rewritten, so that the
// gateway can put a Close frame between two of them when it has to end a
// tunnel itself.
//
// A tunnel is two flows, one for each direction. Each has a goroutine to
// itself, and only that goroutine reads from the flow's one side and writes
// to its other. What is to happen next is one number, the stage; who raises
// it wakes both flows by a read deadline in the past. There are no timers and
// no other goroutines.
//
// A silent tunnel holds no buffer where its sides are plain sockets. What it
// costs is two stacks and less than 2 KiB.
package tunnel

import (
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Reason says what ended a tunnel: the first thing that did.
type Reason string

// The reasons. With the two errors, Result.Err says more.
const (
	ClientClosed  Reason = "client_closed"
	BackendClosed Reason = "backend_closed"
	Idle          Reason = "idle"
	Age           Reason = "age"
	Drained       Reason = "drained"
	ClientError   Reason = "client_error"
	BackendError  Reason = "backend_error"
)

// Options are what Join needs to know of a tunnel.
type Options struct {
	// Idle is how long both directions may be silent together, and how long a
	// write may make no progress; zero is no bound. A stuck write is found
	// within 5/4 of Idle, or twice that if some of it has gone.
	Idle time.Duration
	// MaxAge is how long the tunnel may live; zero is no bound.
	MaxAge time.Duration
	// WebSocket has frames followed: the gateway then ends a tunnel by a
	// Close frame with 1001 (going away) to both sides.
	WebSocket bool
	// ClientEarly and BackendEarly are what was read from each side behind
	// its half of the handshake. They are kept until written, not longer.
	ClientEarly, BackendEarly []byte
	// Bytes, if not nil, is told what has passed since it was last called, at
	// least once for each buffer. Either direction's goroutine calls it, with
	// zero for the other; it must be cheap and safe for concurrent use.
	Bytes func(fromClient, fromBackend int64)
}

// Result is a tunnel that has ended.
type Result struct {
	// FromClient and FromBackend count the bytes of each side that the other
	// was sent, without frames that the gateway put in.
	FromClient, FromBackend int64
	Reason                  Reason
	// Err is not nil for ClientError and BackendError.
	Err error
}

const (
	// grace is what the sides get to end in order, once the end is decided.
	grace = 5 * time.Second
	// patience is how long a Close frame waits for messages to end, of either
	// direction; in a drain, half of its time. Then it goes between two
	// fragments, which RFC 6455, 5.4 allows.
	patience = 2 * time.Second
	// never is the instant of no deadline.
	never = time.Duration(math.MaxInt64)
)

// The stages of a tunnel, in the order it may go through them.
const (
	flowing int32 = iota
	ebbing        // a side has ended; the other may run out until cutAt
	closing       // the gateway ends both sides; they have until cutAt
	ending        // flows return as soon as what they hold is written
	cut           // flows return at once
)

// tunnel is one pair of connections. Instants are durations since epoch.
type tunnel struct {
	options  Options
	epoch    time.Time
	ageAt    time.Duration
	up, down flow // from client, from backend

	// last is the latest instant of traffic; both flows write it.
	last atomic.Int64
	// stage only grows, under mu. turn is raised after whatever a flow that
	// is about to wait must look at again.
	stage, turn atomic.Int32

	mu     sync.Mutex // guards the growth of stage, and:
	reason Reason
	err    error

	// cutAt is when the sides must have ended; pushAt is when Close frames
	// wait for messages no longer. Both are written once, when the stage
	// leaves flowing, and read after it has.
	cutAt, pushAt time.Duration
}

// finale is why and how a tunnel comes to its end.
type finale struct {
	reason Reason
	err    error
	within time.Duration // until cutAt
	push   time.Duration // until pushAt
}

func newTunnel(client, backend net.Conn, o Options, buffers *sync.Pool) *tunnel {
	t := &tunnel{options: o, epoch: time.Now(), ageAt: never}
	t.options.ClientEarly, t.options.BackendEarly = nil, nil
	if o.MaxAge > 0 {
		t.ageAt = o.MaxAge
	}
	t.up.join(t, client, backend, buffers)
	t.down.join(t, backend, client, buffers)
	return t
}

func (t *tunnel) now() time.Duration { return time.Since(t.epoch) }

// at is the deadline of an instant.
func (t *tunnel) at(instant time.Duration) time.Time {
	if instant == never {
		return time.Time{}
	}
	return t.epoch.Add(instant)
}

// past is a deadline that wakes whoever waits.
func past() time.Time { return time.Unix(1, 0) }

// note keeps the reason of the first end, which need not end the tunnel.
func (t *tunnel) note(why finale) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reason == "" {
		t.reason, t.err = why.reason, why.err
	}
}

// raise takes the tunnel to a later stage and wakes both flows. The finale
// counts if the stage was flowing. Safe for concurrent use.
func (t *tunnel) raise(to int32, why finale) {
	t.mu.Lock()
	defer t.mu.Unlock()
	from := t.stage.Load()
	if from >= to || to == closing && from != flowing {
		return // sides that are ending by themselves need no Close from us
	}
	if from == flowing {
		now := t.now()
		t.cutAt, t.pushAt = never, now+why.push
		if why.within != never {
			t.cutAt = now + why.within
		}
		// A side that fails after the other has ended fails because of it.
		if t.reason == "" || to == closing || to == cut {
			t.reason, t.err = why.reason, why.err
		}
	}
	t.stage.Store(to)
	t.turn.Add(1)
	// Deadlines are set under mu, so that an earlier stage's cannot come last.
	for _, f := range [...]*flow{&t.up, &t.down} {
		_ = f.from.conn.SetReadDeadline(past())
		switch {
		case to == cut:
			_ = f.to.SetWriteDeadline(past())
		case t.cutAt != never:
			_ = f.to.SetWriteDeadline(t.at(t.cutAt))
		}
	}
}

// run passes bytes until both flows have ended, then closes both sides.
func (t *tunnel) run(clientEarly, backendEarly []byte) Result {
	var other sync.WaitGroup
	other.Go(func() { t.down.run(backendEarly) })
	t.up.run(clientEarly)
	other.Wait()
	t.up.from.close(t.stage.Load() == cut)
	t.down.from.close(t.stage.Load() == cut)
	t.mu.Lock()
	defer t.mu.Unlock()
	return Result{FromClient: t.up.bytes, FromBackend: t.down.bytes, Reason: t.reason, Err: t.err}
}

// closer is a connection that can end its outgoing stream alone.
type closer interface{ CloseWrite() error }
