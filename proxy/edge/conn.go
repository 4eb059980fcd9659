package edge

import (
	"crypto/tls"
	"net"
	"net/netip"
	"sync"
	"time"
)

// The protocols that Conn.Protocol tells.
const (
	HTTP1 = "http/1.1"
	HTTP2 = "h2"
)

// Conn is a client's connection. Its owner calls Handshake first, and may
// then read and write as with any net.Conn. Deadlines go straight to the
// socket. Close, Gone, the deadlines and the accessors may be called from any
// goroutine once Handshake has returned.
type Conn struct {
	net.Conn // the socket

	ln      *Listener
	head    *head     // read ahead; nil when drained. The reader's
	tls     *tls.Conn // nil on plain. Written under mu, before Handshake returns
	state   *tls.ConnectionState
	proto   string
	name    string         // what SNI asked for, in lower case
	peer    netip.AddrPort // after Handshake, the client
	local   netip.AddrPort
	remote  net.Addr // set when a PROXY header named it
	target  net.Addr
	probe   probe
	handled bool  // Handshake has run
	err     error // what it returned
	proxied bool  // a PROXY header is required

	// Of the TLS handshake, in its goroutine.
	by      time.Time // when it must be over
	opening bool      // it is under way
	holding bool      // it has a slot
	busy    bool      // it got none in time
	unknown bool      // there is no certificate for its name

	mu      sync.Mutex // guards the rest
	open    bool       // it counts as open at the listener
	counted netip.Addr // what it counts as at the listener's addresses; invalid: nothing
	closed  bool       // Close has been called
}

// head holds bytes that were read before the reader asked: b[r:w].
type head struct {
	r, w int
	b    [4096]byte
}

func newConn(l *Listener, nc net.Conn) *Conn {
	c := &Conn{Conn: nc, ln: l, proto: HTTP1, peer: addrPort(nc.RemoteAddr()), local: addrPort(nc.LocalAddr())}
	for _, p := range l.cfg.ProxyProtocol {
		if p.Contains(c.peer.Addr()) {
			c.proxied = true
			break
		}
	}
	return c
}

// addrPort is a's address, 0.0.0.0:0 when it is none of TCP.
func addrPort(a net.Addr) netip.AddrPort {
	if tcp, ok := a.(*net.TCPAddr); ok && tcp != nil {
		if p := tcp.AddrPort(); p.IsValid() {
			return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
		}
	}
	return netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
}

// count counts c for its client's address. It returns false when that is over
// the bound.
func (c *Conn) count() bool {
	if c.ln.cfg.PerAddress <= 0 || c.peer.Addr().IsUnspecified() {
		return true
	}
	a := counted(c.peer.Addr())
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return true // what follows will see it
	}
	if !c.ln.addresses.take(a) {
		c.ln.counters.refusedAddress.Add(1)
		return false
	}
	c.counted = a
	return true
}

// release gives back what c counts for.
func (c *Conn) release() {
	c.mu.Lock()
	open, a := c.open, c.counted
	c.open, c.counted = false, netip.Addr{}
	c.mu.Unlock()
	if open {
		c.ln.leave()
	}
	if a.IsValid() {
		c.ln.addresses.free(a)
	}
}

// Read reads what the client sent. One goroutine may read at a time.
func (c *Conn) Read(p []byte) (int, error) {
	if c.tls != nil {
		return c.tls.Read(p)
	}
	if c.head != nil {
		return c.drain(p), nil
	}
	return c.Conn.Read(p)
}

// drain gives out what was read ahead. The buffer goes back when it is empty.
func (c *Conn) drain(p []byte) int {
	h := c.head
	n := copy(p, h.b[h.r:h.w])
	h.r += n
	if h.r == h.w {
		c.drop()
	}
	return n
}

// drop gives the buffer back.
func (c *Conn) drop() {
	c.ln.heads.Put(c.head)
	c.head = nil
}

// Write sends to the client.
func (c *Conn) Write(p []byte) (int, error) {
	if c.tls != nil {
		return c.tls.Write(p)
	}
	return c.Conn.Write(p)
}

// Close closes the connection, with a close_notify on TLS, and gives back what
// it counts for. A second call returns net.ErrClosed.
func (c *Conn) Close() error {
	c.mu.Lock()
	secure, closed := c.tls, c.closed
	c.closed = true
	c.mu.Unlock()
	if closed {
		return net.ErrClosed
	}
	defer c.release() // after the socket is closed: the bounds hold for sockets
	if secure != nil {
		return secure.Close()
	}
	return c.Conn.Close()
}

// Peer is the client's address: what the PROXY header says, else the socket's
// peer. It is 0.0.0.0 where there is none. IPv4 is never mapped into IPv6.
func (c *Conn) Peer() netip.Addr { return c.peer.Addr() }

// Local is the address that the client connected to, found as Peer is.
func (c *Conn) Local() netip.Addr { return c.local.Addr() }

// Direct is the address of the socket's peer, a proxy or the client.
func (c *Conn) Direct() netip.Addr { return addrPort(c.Conn.RemoteAddr()).Addr() }

// RemoteAddr is the client's address, with its port, found as Peer is.
func (c *Conn) RemoteAddr() net.Addr {
	if c.remote != nil {
		return c.remote
	}
	return c.Conn.RemoteAddr()
}

// LocalAddr is the address that the client connected to, with its port.
func (c *Conn) LocalAddr() net.Addr {
	if c.target != nil {
		return c.target
	}
	return c.Conn.LocalAddr()
}

// TLS is the state after the handshake; nil on plain connections. It is only
// read.
func (c *Conn) TLS() *tls.ConnectionState { return c.state }

// ServerName is the name that the client asked for by SNI, in lower case;
// empty when it named none and on plain connections.
func (c *Conn) ServerName() string { return c.name }

// Protocol is HTTP2 or HTTP1, known after Handshake. A client that says
// nothing speaks HTTP1.
func (c *Conn) Protocol() string { return c.proto }

// ConnectionState has Protocol as its NegotiatedProtocol, on plain connections
// too, where the rest is zero. Nor is it empty when the client named none, or
// when Handshake failed.
func (c *Conn) ConnectionState() tls.ConnectionState {
	if c.state == nil {
		return tls.ConnectionState{NegotiatedProtocol: c.proto}
	}
	s := *c.state
	s.NegotiatedProtocol = c.proto
	return s
}

// Stripped is what c reads from and writes to: the socket on plain
// connections, the *tls.Conn on TLS; c itself while it holds bytes read ahead.
// For who goes on with the connection when HTTP is over, and closes c in the
// end.
func (c *Conn) Stripped() net.Conn {
	switch {
	case c.head != nil:
		return c
	case c.tls != nil:
		return c.tls
	}
	return c.Conn
}

// NetConn is the socket. Reading from it misses what was read ahead, and TLS.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// Bare is c for codecs that take any connection with a ConnectionState for
// TLS, as http2.Server does, and refuse a plain one that has it: c itself on
// TLS, else c without Handshake and ConnectionState.
func (c *Conn) Bare() net.Conn {
	if c.tls != nil {
		return c
	}
	return (*bare)(c)
}

type bare Conn

func (b *bare) Read(p []byte) (int, error)  { return (*Conn)(b).Read(p) }
func (b *bare) Write(p []byte) (int, error) { return (*Conn)(b).Write(p) }
func (b *bare) Close() error                { return (*Conn)(b).Close() }
func (b *bare) RemoteAddr() net.Addr        { return (*Conn)(b).RemoteAddr() }
func (b *bare) LocalAddr() net.Addr         { return (*Conn)(b).LocalAddr() }

// Gone reports whether the client has closed the connection or its writing
// half, or the connection has failed, even with bytes left to read. It does
// not block. It is false where that cannot be known: other systems than Linux,
// connections in memory, a close_notify without the closing of the socket.
func (c *Conn) Gone() bool { return c.probe.gone(c.Conn) }
