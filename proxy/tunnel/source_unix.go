//go:build unix

package tunnel

import (
	"io"

	"golang.org/x/sys/unix"
)

const canRead = true

// try reads once from a socket that does not block. False has it called again
// when there may be bytes.
func (s *source) try(fd uintptr) bool {
	s.take()
	for {
		s.n, s.err = unix.Read(int(fd), s.held[:])
		switch {
		case s.err == unix.EINTR: //nolint:errorlint // unix.Read wraps nothing
			continue
		case s.err == unix.EAGAIN: //nolint:errorlint // as above
			s.free()
			return false
		case s.err != nil:
			s.n = 0 // it is -1
		case s.n == 0:
			s.err = io.EOF
		}
		return true
	}
}
