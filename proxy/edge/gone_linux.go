package edge

import (
	"net"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// probe asks the kernel about a socket without reading from it.
type probe struct {
	mu    sync.Mutex // guards the rest
	raw   syscall.RawConn
	ask   func(fd uintptr) // p.poll, kept so that asking does not allocate
	fds   [1]unix.PollFd
	ended bool // it stays so
}

func (p *probe) gone(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return true
	}
	if p.ask == nil {
		socket, ok := c.(syscall.Conn)
		if !ok {
			return false
		}
		raw, err := socket.SyscallConn()
		if err != nil {
			return false
		}
		p.raw, p.ask = raw, p.poll
	}
	if p.raw.Control(p.ask) != nil {
		p.ended = true // closed on our side
	}
	return p.ended
}

func (p *probe) poll(fd uintptr) {
	p.fds[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLRDHUP}
	n, err := unix.Poll(p.fds[:], 0)
	p.ended = err == nil && n > 0 && p.fds[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0
}
