package edge

import (
	"errors"
	"net"
	"syscall"
	"testing"
)

// TestGone: the end of the client's writing shows, with bytes unread before
// it, and so does a reset; on TLS too.
func TestGone(t *testing.T) {
	f := func(name string, leave func(*net.TCPConn)) {
		t.Helper()
		l, dial := listenTCP(t, Config{})
		client := dial()
		c := accept(t, l)
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		if c.Gone() {
			t.Errorf("%s: gone at the beginning", name)
		}
		write(t, client, "unread")
		eventually(t, "bytes arrive", func() bool { return buffered(t, c) })
		if c.Gone() {
			t.Errorf("%s: gone with bytes unread", name)
		}
		leave(client)
		eventually(t, name, c.Gone)
		_ = c.Close()
		if !c.Gone() {
			t.Errorf("%s: not gone once closed", name)
		}
	}
	f("half close", func(c *net.TCPConn) { _ = c.CloseWrite() })
	f("close", func(c *net.TCPConn) { _ = c.Close() })
	f("reset", func(c *net.TCPConn) { _ = c.SetLinger(0); _ = c.Close() })
}

// buffered reports whether the kernel has bytes for c.
func buffered(t *testing.T, c *Conn) bool {
	t.Helper()
	raw, err := c.NetConn().(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, _ = syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	})
	if err != nil && !errors.Is(err, syscall.EAGAIN) {
		t.Fatal(err)
	}
	return n > 0
}
