package upstream

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// link is one HTTP/2 connection, and what its library reads and writes.
type link struct {
	net.Conn // TLS or plain
	conn     *conn
	client   *http.ClientConn
	gone     func(*link) // called once when the connection is closed; nil: nobody minds
	closed   sync.Once
	ended    chan struct{} // closed with it

	greeted atomic.Bool   // the backend's settings have begun to come
	seen    int           // bytes read before that; the reader's
	broken  chan error    // why they did not, from the reader; it has room for one
	settle  sync.Once     // of settled
	settled chan struct{} // closed when the settings hold

	used atomic.Bool // it has answered a request

	using  int  // requests, from reservation to release; guarded by streams.mu
	leaves bool // it is to end with its last request; guarded by streams.mu
}

// The bounds on what a backend may make one request buffer.
const (
	streamWindow = 256 << 10 // bytes of a body that is not read as fast as it comes
	maxFrame     = 64 << 10
)

// ponder is how long a ping may go unanswered.
const ponder = 15 * time.Second

// newLink makes HTTP/2 of c, which it closes if that is not possible. A
// connection on which nothing came for half the idle timeout is asked with a
// ping, twice at most before a request on it is out of time: servers of gRPC
// end connections that ping more.
func newLink(ctx context.Context, c *conn, idle time.Duration, gone func(*link)) (*link, error) {
	l := &link{Conn: c.nc, conn: c, gone: gone, ended: make(chan struct{}), broken: make(chan error, 1), settled: make(chan struct{})}
	var plain http.Protocols
	plain.SetUnencryptedHTTP2(true) // TLS is on already, and has agreed to h2
	t := &http.Transport{
		DialContext:            func(context.Context, string, string) (net.Conn, error) { return l, nil },
		Protocols:              &plain,
		DisableCompression:     true,
		IdleConnTimeout:        idle,
		MaxResponseHeaderBytes: maxHead,
		HTTP2: &http.HTTP2Config{
			MaxReceiveBufferPerStream: streamWindow,
			MaxReadFrameSize:          maxFrame,
			SendPingTimeout:           idle / 2,
			PingTimeout:               min(ponder, idle),
			WriteByteTimeout:          idle,
		},
	}
	var err error
	if l.client, err = t.NewClientConn(ctx, "http", c.endpoint.target.addr); err == nil {
		err = l.ready(ctx)
	}
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("HTTP/2 with %s: %w", c.endpoint.target.addr, err)
	}
	return l, nil
}

// ready waits until the backend's settings hold. Before that the library
// takes more requests than they may allow, and these could block one another.
func (l *link) ready(ctx context.Context) error {
	select {
	case <-l.settled:
		return nil
	case <-l.ended:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-l.broken:
		return err
	default:
		return errNoAnswer
	}
}

// Read looks at the first bytes. They are the header of a SETTINGS frame (RFC
// 9113, section 3.4), or else the library's own errors would not say why.
func (l *link) Read(p []byte) (int, error) {
	const settings = 4
	n, err := l.Conn.Read(p)
	if l.greeted.Load() {
		return n, err
	}
	kind := 3 - l.seen // where the frame's type is in p
	l.seen += n
	switch {
	case kind < n && p[kind] == settings:
		l.greeted.Store(true)
	case kind < n:
		err = errForeign
		l.broken <- err
		return 0, err
	case err != nil:
		l.broken <- err
	}
	return n, err
}

// Write notes the acknowledgement of the settings, the first that is written
// once they have come.
func (l *link) Write(p []byte) (int, error) {
	greeted := l.greeted.Load()
	n, err := l.Conn.Write(p)
	if greeted && err == nil {
		l.settle.Do(func() { close(l.settled) })
	}
	return n, err
}

// Close ends the connection at once, without TLS's parting alert.
func (l *link) Close() error {
	l.closed.Do(func() {
		l.conn.close()
		close(l.ended)
		if l.gone != nil {
			l.gone(l)
		}
	})
	return nil
}

// spent reports whether l takes no more requests and has none. A stream that
// just ended, or was reset and not yet acknowledged, is still in flight. The
// caller holds streams.mu.
func (l *link) spent() bool {
	return l.using == 0 && (l.leaves || l.client.Err() != nil || l.client.InFlight() == 0 && l.client.Available() == 0)
}
