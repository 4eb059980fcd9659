package upstream

import "net"

// gate lets TLS be asked what it has already taken from the socket. A tls.Conn
// reads ahead, so the socket may be silent while an unasked record waits.
type gate struct {
	net.Conn
	shut bool // reads find nothing; the conn's owner sets it, and reads
}

func (g *gate) Read(p []byte) (int, error) {
	if g.shut {
		return 0, errShut
	}
	return g.Conn.Read(p)
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
