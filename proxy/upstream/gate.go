package upstream

import (
	"io"
	"net"
)

// gate lets TLS be asked what it has already taken from the socket. A tls.Conn
// reads ahead, so the socket may be silent while an unasked record waits.
type gate struct {
	net.Conn
	shut bool // reads find nothing; the conn's owner sets it, and reads
	cut  bool // the socket ended before TLS did; tls.Conn has io.EOF for both
}

func (g *gate) Read(p []byte) (int, error) {
	if g.shut {
		return 0, errShut
	}
	n, err := g.Conn.Read(p)
	if err == io.EOF { //nolint:errorlint // io.Reader's contract
		g.cut = true
	}
	return n, err
}

// drained reports whether secure, which reads through g, holds nothing.
func (g *gate) drained(secure net.Conn) bool {
	var one [1]byte
	g.shut = true
	n, err := secure.Read(one[:])
	g.shut = false
	return n == 0 && err == errShut //nolint:errorlint // tls.Conn returns it as it is
}

// errShut is temporary, so that a tls.Conn goes on after it.
var errShut net.Error = shut{}

type shut struct{}

func (shut) Error() string   { return "the gate is shut" }
func (shut) Timeout() bool   { return true }
func (shut) Temporary() bool { return true }
