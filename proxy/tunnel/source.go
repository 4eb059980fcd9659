package tunnel

import (
	"net"
	"sync"
	"syscall"
	"time"
)

const (
	// bufferSize is what is read at once.
	bufferSize = 32 << 10
	// smallSize is what is read first where a buffer would have to be held
	// while waiting.
	smallSize = 64
	// linger is how long such a buffer is held after the last bytes.
	linger = time.Second
)

type buffer [bufferSize]byte

// source reads one connection, and holds a buffer only while bytes come.
//
// A plain socket is read from within its readiness callback: the buffer is
// taken for the attempt and given back before the wait. Any other connection
// may hold bytes that its socket no longer does (TLS), so only its Read can
// tell. It reads into small until that is filled, then into a buffer until
// none have come for the linger. Its owner is the flow.
type source struct {
	conn    net.Conn
	raw     syscall.RawConn // nil where Read must be used
	attempt func(fd uintptr) bool
	n       int // results of attempt
	err     error

	buffers *sync.Pool // of *buffer
	held    *buffer

	small [smallSize]byte
	rich  bool          // held is read into
	came  bool          // bytes have come since until was set
	until time.Duration // end of the linger
}

func (s *source) open(conn net.Conn, buffers *sync.Pool) {
	s.conn, s.buffers = conn, buffers
	// Exactly these types: what embeds one may read in a way of its own.
	var plain syscall.Conn
	switch c := conn.(type) {
	case *net.TCPConn:
		plain = c
	case *net.UnixConn:
		plain = c
	default:
		return
	}
	if raw, err := plain.SyscallConn(); err == nil && canRead {
		s.raw, s.attempt = raw, s.try
	}
}

// next waits for bytes. They hold until free.
func (s *source) next() ([]byte, error) {
	switch {
	case s.raw != nil:
		s.n, s.err = 0, nil
		if err := s.raw.Read(s.attempt); err != nil {
			return nil, err
		}
		if s.n == 0 {
			return nil, s.err
		}
		return s.held[:s.n], s.err
	case !s.rich:
		n, err := s.conn.Read(s.small[:])
		s.rich = n == len(s.small)
		s.until = 0
		return s.small[:n], err
	default:
		s.take()
		n, err := s.conn.Read(s.held[:])
		s.came = s.came || n > 0
		return s.held[:n], err
	}
}

// by is the deadline of the next read, which is to be no later than most.
func (s *source) by(now, most time.Duration) time.Duration {
	if !s.rich {
		return most
	}
	if s.until == 0 {
		s.until = now + linger
	}
	return min(most, s.until)
}

// rest is told that a deadline has passed.
func (s *source) rest(now time.Duration) {
	if s.rich && now >= s.until {
		s.rich, s.came, s.until = s.came, false, 0
	}
}

func (s *source) take() {
	if s.held == nil {
		var ok bool
		if s.held, ok = s.buffers.Get().(*buffer); !ok {
			s.held = new(buffer)
		}
	}
}

// free gives the buffer back.
func (s *source) free() {
	if s.held != nil {
		s.buffers.Put(s.held)
		s.held = nil
	}
}

// close closes the connection. In a hurry it waits for nothing: a plain
// socket sends FIN before what it may have to refuse, and TLS is closed
// without its parting alert, which could block.
func (s *source) close(hurry bool) {
	if hurry {
		if c, ok := s.conn.(closer); ok && s.raw != nil {
			_ = c.CloseWrite()
		}
		if c, ok := s.conn.(interface{ NetConn() net.Conn }); ok {
			_ = c.NetConn().Close()
		}
	}
	_ = s.conn.Close()
}
