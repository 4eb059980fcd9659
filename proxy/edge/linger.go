package edge

import (
	"errors"
	"time"
)

// CloseWrite tells the client that nothing more will come: close_notify on
// TLS, then the end of the stream. Reading goes on. The error is
// errors.ErrUnsupported where the transport has no halves.
func (c *Conn) CloseWrite() error {
	if c.tls != nil {
		if err := c.tls.CloseWrite(); err != nil {
			return err
		}
	}
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Linger closes the connection such that the client can read the last answer
// though it is still sending: it ends the writing half, then discards what
// comes until the client ends too, until d has passed, or limit bytes have
// come, and closes. Closing at once would make the kernel answer what comes
// with a reset, which may destroy the answer on its way (RFC 9112 section
// 9.6). It is called in place of Close, by the reader.
func (c *Conn) Linger(d time.Duration, limit int) {
	defer c.Close()
	if c.CloseWrite() != nil || c.SetReadDeadline(time.Now().Add(d)) != nil {
		return
	}
	// Straight from the socket: what TLS would make of it does not matter.
	h := c.ln.heads.Get().(*head)
	defer c.ln.heads.Put(h)
	for limit > 0 {
		n, err := c.Conn.Read(h.b[:min(limit, len(h.b))])
		if err != nil {
			return
		}
		limit -= n
	}
}
