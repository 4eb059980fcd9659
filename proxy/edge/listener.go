// Package edge is what lies between the kernel's socket and the HTTP codecs on
// the client's side: bounds on connections, the PROXY protocol, TLS, and the
// look at the first bytes that tells HTTP/2 from HTTP/1.1.
//
// A Listener gives out connections at once, before anything is read from
// them. Conn.Handshake then does what takes time, in the goroutine that will
// serve the connection, and says which protocol follows. Nothing is ever
// guessed from bytes of a peer that has not been named: a PROXY header is
// required of the peers listed, and is never looked for from others.
package edge

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Config says what a Listener does with its connections. No reload applies;
// certificates and the settings of tenants change within TLS.
type Config struct {
	// ProxyProtocol lists the peers whose connections must begin with a PROXY
	// header, version 2. Connections of listed peers that do not are closed.
	// A peer whose address is unknown counts as 0.0.0.0.
	ProxyProtocol []netip.Prefix
	// HeaderTimeout bounds Conn.Handshake: the PROXY header, the TLS handshake
	// with its wait for a slot, the first bytes of HTTP. Default 10 s.
	HeaderTimeout time.Duration
	// Connections bounds the open connections of the listener. 0: no bound.
	Connections int
	// PerAddress bounds the open connections of one client address; of IPv6
	// clients, of one /64. Listed proxies do not count when they speak for
	// themselves, nor do peers whose address is unknown. 0: no bound.
	PerAddress int
	// Refusal is the whole HTTP answer to plain connections over a bound.
	// It is only read. Nil: they are closed without a word, as TLS ones are.
	Refusal []byte
	// Handshakes bounds the TLS handshakes that compute at one time. One that
	// waits for its client does not count. 0: no bound.
	Handshakes int
	// TLS terminates TLS. Nil: connections are plain.
	TLS *TLS
	// HTTP2 offers HTTP/2: by ALPN on TLS, and with prior knowledge on plain
	// connections, where the first bytes tell.
	HTTP2 bool
	// Counters counts what happens; several listeners may share one. Nil: the
	// listener has its own.
	Counters *Counters
}

const (
	// proxyTimeout bounds the PROXY header. A proxy has it ready when it connects.
	proxyTimeout = time.Second
	// refusalTimeout bounds writing a refusal, and then waiting for the client
	// to have read it.
	refusalTimeout = 250 * time.Millisecond
	// refusalBytes are discarded of what a refused client sends.
	refusalBytes = 64 << 10
	// refusals is how many refused connections may wait at one time; others
	// are closed at once, and their clients may see a reset.
	refusals = 64
)

// Listener admits connections. Its methods are safe for concurrent use.
type Listener struct {
	inner     net.Listener
	cfg       Config
	counters  *Counters
	addresses addresses
	open      atomic.Int64  // connections admitted and not yet closed
	slots     chan struct{} // holds an element per handshake that computes; nil: no bound
	heads     sync.Pool     // of *head
	refusing  chan struct{} // holds an element per refused connection that waits
	closed    chan struct{} // closed by Close
	once      sync.Once     // guards the closing of closed
}

// Listen returns a listener that takes connections from inner and owns it.
func Listen(inner net.Listener, cfg Config) *Listener {
	if cfg.HeaderTimeout <= 0 {
		cfg.HeaderTimeout = 10 * time.Second
	}
	if cfg.Counters == nil {
		cfg.Counters = &Counters{}
	}
	l := &Listener{
		inner: inner, cfg: cfg, counters: cfg.Counters,
		addresses: addresses{bound: cfg.PerAddress},
		refusing:  make(chan struct{}, refusals), closed: make(chan struct{}),
	}
	if cfg.Handshakes > 0 && cfg.TLS != nil {
		l.slots = make(chan struct{}, cfg.Handshakes)
	}
	l.heads.New = func() any { return &head{} }
	return l
}

// Accept returns the next connection within the bounds, a *Conn. It reads
// nothing from connections, and waits for no client. It outlasts a lack of
// file descriptors or memory; other errors are those of the inner listener.
func (l *Listener) Accept() (net.Conn, error) {
	wait := time.Duration(0)
	for {
		nc, err := l.inner.Accept()
		if err != nil {
			if !passing(err) {
				return nil, err
			}
			l.counters.AcceptErrors.Add(1)
			wait = min(max(2*wait, 5*time.Millisecond), time.Second)
			select {
			case <-l.closed:
				return nil, err
			case <-time.After(wait):
			}
			continue
		}
		wait = 0
		l.counters.Accepted.Add(1)
		if c := l.admit(nc); c != nil {
			return c, nil
		}
	}
}

// passing reports whether Accept may succeed later.
func passing(err error) bool {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return false
	}
	switch errno {
	case syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED:
		return true
	}
	return false
}

// admit returns nil when nc is over a bound; it is refused then.
func (l *Listener) admit(nc net.Conn) *Conn {
	c := newConn(l, nc)
	if !l.enter() {
		l.counters.refusedTotal.Add(1)
		l.refuse(c)
		return nil
	}
	c.open = true
	if !c.proxied && !c.count() {
		l.refuse(c)
		return nil
	}
	return c
}

// enter counts a connection unless there are too many.
func (l *Listener) enter() bool {
	for {
		n := l.open.Load()
		if l.cfg.Connections > 0 && n >= int64(l.cfg.Connections) {
			return false
		}
		if l.open.CompareAndSwap(n, n+1) {
			l.counters.Open.Add(1)
			return true
		}
	}
}

func (l *Listener) leave() {
	l.open.Add(-1)
	l.counters.Open.Add(-1)
}

// refuse answers c in the accepting goroutine, which a fresh socket does not
// hold up, and leaves the wait for the client to another. Close waits for it.
func (l *Listener) refuse(c *Conn) {
	if !c.decline() {
		_ = c.Close()
		return
	}
	select {
	case l.refusing <- struct{}{}:
		c.release() // it is no longer a connection that anyone serves
		go func() {
			defer func() { <-l.refusing }()
			c.Linger(refusalTimeout, refusalBytes)
		}()
	default:
		_ = c.Close()
	}
}

// Close stops accepting, and returns when no refusal is under way: within
// 250 ms. Connections given out stay open.
func (l *Listener) Close() error {
	err := net.ErrClosed
	l.once.Do(func() {
		close(l.closed)
		err = l.inner.Close()
		for range refusals {
			l.refusing <- struct{}{} // never freed: nothing is refused any more
		}
	})
	return err
}

// Addr is the address of the inner listener.
func (l *Listener) Addr() net.Addr { return l.inner.Addr() }

// SetDeadline bounds Accept. The error is os.ErrNoDeadline where the inner
// listener has no such bound.
func (l *Listener) SetDeadline(at time.Time) error {
	if d, ok := l.inner.(interface{ SetDeadline(time.Time) error }); ok {
		return d.SetDeadline(at)
	}
	return os.ErrNoDeadline
}

// Open is the number of connections given out and not yet closed.
func (l *Listener) Open() int { return int(l.open.Load()) }
