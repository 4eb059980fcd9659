package proxy

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// listener can stop accepting without losing what the kernel has queued: it
// accepts for a while longer, then closes. Closing alone would reset the
// queue. A connection that completes in the very moment of closing is reset
// all the same: the kernel offers no way around that.
type listener struct {
	net.Listener
	draining atomic.Bool
	emptied  chan struct{} // closed when nothing accepts any more
	once     sync.Once     // guards the closing of emptied
}

// drainQueue is the time to accept what is queued.
const drainQueue = 20 * time.Millisecond

func (l *listener) drain() {
	l.draining.Store(true)
	if tcp, ok := l.Listener.(*net.TCPListener); ok {
		if tcp.SetDeadline(time.Now().Add(drainQueue)) == nil {
			return
		}
	}
	_ = l.Close() // a listener in memory has no queue
}

// Accept returns io.EOF, fasthttp's word for a closed listener, at the end of
// a drain.
func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil && l.draining.Load() {
		_ = l.Close() // the address is free again
		return nil, io.EOF
	}
	return c, err
}

// done says that nobody accepts any more.
func (l *listener) done() { l.once.Do(func() { close(l.emptied) }) }
