package tunnel

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"
)

// Set holds the tunnels of a gateway, so that they can be drained. Safe for
// concurrent use.
type Set struct {
	buffers sync.Pool // of *buffer; none is held by a silent tunnel

	mu       sync.Mutex // guards what follows
	tunnels  map[*tunnel]struct{}
	draining bool          // no tunnel enters any more
	empty    chan struct{} // closed when draining and without tunnels
}

// NewSet returns an empty set.
func NewSet() *Set {
	return &Set{tunnels: map[*tunnel]struct{}{}, empty: make(chan struct{})}
}

// Join passes bytes between client and backend until the tunnel has ended,
// and has closed both when it returns. It takes the caller's goroutine, and
// one more that has ended on return.
//
// The connections should be the sockets themselves, *net.TCPConn or
// *net.UnixConn, or a *tls.Conn: of what wraps them Join makes the best, but
// it holds a buffer for a second after the last bytes. Deadlines that the
// connections carry are removed.
//
// A side that ends its stream has that passed on. Another protocol than
// WebSocket goes on in the other direction. A WebSocket ends within five
// seconds of that or of the second Close frame; so does a tunnel whose other
// side cannot be told, having no CloseWrite. Where the gateway
// ends the tunnel, idle or aged, it sends Close with 1001 to both sides of a
// WebSocket, at the end of a message if one comes soon, and FIN otherwise;
// both then have five seconds.
//
// After Drain, Join sends the same Close and closes both at once.
func (s *Set) Join(client, backend net.Conn, o Options) Result {
	for _, c := range [...]net.Conn{client, backend} {
		_ = c.SetDeadline(time.Time{}) // a broken connection shows when used
	}
	t := newTunnel(client, backend, o, &s.buffers)
	if !s.enter(t) {
		return t.refuse()
	}
	defer s.leave(t)
	return t.run(o.ClientEarly, o.BackendEarly)
}

// refuse ends a tunnel that has not begun.
func (t *tunnel) refuse() Result {
	for _, f := range [...]*flow{&t.up, &t.down} {
		if t.options.WebSocket {
			_ = f.to.SetWriteDeadline(time.Now().Add(grace))
			_, _ = f.to.Write(goingAway(f == &t.up)) // closed in either case
		}
	}
	t.up.from.close(true)
	t.down.from.close(true)
	return Result{Reason: Drained}
}

func (s *Set) enter(t *tunnel) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.draining {
		s.tunnels[t] = struct{}{}
	}
	return !s.draining
}

func (s *Set) leave(t *tunnel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tunnels, t)
	if s.draining && len(s.tunnels) == 0 {
		close(s.empty)
	}
}

// Len is the number of tunnels.
func (s *Set) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.tunnels)
}

// Drain ends all tunnels, for good, and waits for them. WebSockets get Close
// with 1001 and have until ctx ends to answer. Others go on until then. What
// is left at the end of ctx is cut, and the error says how many that were; it
// wraps the cause of ctx.
func (s *Set) Drain(ctx context.Context) error {
	why := finale{reason: Drained, within: never, push: grace}
	if by, ok := ctx.Deadline(); ok {
		why.push = time.Until(by) / 2
	}
	s.mu.Lock()
	if !s.draining {
		s.draining = true
		if len(s.tunnels) == 0 {
			close(s.empty)
		}
	}
	for t := range s.tunnels {
		if t.options.WebSocket {
			t.raise(closing, why)
		}
	}
	s.mu.Unlock()
	select {
	case <-s.empty:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	left := len(s.tunnels)
	for t := range s.tunnels {
		t.raise(cut, finale{reason: Drained})
	}
	s.mu.Unlock()
	<-s.empty
	if left == 0 {
		return nil
	}
	return fmt.Errorf("drain tunnels: %d cut: %w", left, context.Cause(ctx))
}
