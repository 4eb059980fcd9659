package edge

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const refusal = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

// TestConnections: the connection over the bound reads the refusal, though it
// has sent its request; one that closes makes room for exactly one.
func TestConnections(t *testing.T) {
	l, dial := listenTCP(t, Config{Connections: 2, Refusal: []byte(refusal)})
	accepted := make(chan *Conn)
	go func() {
		defer close(accepted)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c.(*Conn)
		}
	}()
	refused := func() {
		t.Helper()
		c := dial()
		write(t, c, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
		if got, err := io.ReadAll(c); string(got) != refusal || err != nil {
			t.Errorf("refused with %q, %v", got, err)
		}
		_ = c.Close()
	}
	dial()
	first := <-accepted
	dial()
	second := <-accepted
	for range 3 {
		refused()
	}
	if l.Open() != 2 || l.counters.Open.Load() != 2 || l.counters.Accepted.Load() != 5 || counts(l.counters) != "refused connections 3" {
		t.Errorf("%d open, %d accepted, %s", l.Open(), l.counters.Accepted.Load(), counts(l.counters))
	}
	_ = first.Close()
	_ = first.Close()
	dial()
	third := <-accepted
	refused()
	_ = second.Close()
	_ = third.Close()
	if l.Open() != 0 || l.counters.Open.Load() != 0 {
		t.Errorf("%d open", l.Open())
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := l.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed again: %v", err)
	}
	if c, ok := <-accepted; ok {
		t.Errorf("accepted %v once closed", c)
	}
}

// TestRefusedTLS: nothing is said on TLS.
func TestRefusedTLS(t *testing.T) {
	a, folder := newAuthority(t), t.TempDir()
	a.put(t, folder, "a", leaf{names: []string{"a.test"}})
	l, dial := listenTCP(t, Config{Connections: 1, PerAddress: 1, Refusal: []byte(refusal), TLS: newTLS(t, TLSConfig{Folder: folder})})
	dial()
	accept(t, l)
	over := dial()
	go func() { _, _ = l.Accept() }()
	if got, err := io.ReadAll(over); len(got) != 0 || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// TestPerAddress goes by the client, which behind a proxy is known late.
func TestPerAddress(t *testing.T) {
	everyone := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
	l, dial := listenTCP(t, Config{PerAddress: 2, Refusal: []byte(refusal), ProxyProtocol: everyone})
	from := func(ip string) string {
		a := addr(ip)
		if a.Is4() {
			return header(0x21, 0x11, string(a.AsSlice())+v4[4:])
		}
		return header(0x21, 0x21, string(a.AsSlice())+v6[16:])
	}
	open := func(head string) *Conn {
		t.Helper()
		client := dial()
		write(t, client, head+"GET / HTTP/1.1\r\n\r\n")
		c := accept(t, l)
		if err := c.Handshake(); err != nil {
			if !errors.Is(err, errRefused) {
				t.Fatal(err)
			}
			return nil
		}
		return c
	}
	allowed := func(head string, want bool) *Conn {
		t.Helper()
		c := open(head)
		if (c != nil) != want {
			t.Errorf("%q: allowed %t", head, c != nil)
		}
		return c
	}
	first := allowed(from("192.0.2.1"), true)
	allowed(from("192.0.2.1"), true)
	// The mapped form is the same client.
	allowed(header(0x21, 0x21, "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x01"+v6[16:]), false)
	allowed(from("192.0.2.2"), true)
	allowed(from("2001:db8:0:1::1"), true)
	allowed(from("2001:db8:0:1:ffff::2"), true)
	allowed(from("2001:db8:0:1::3"), false)
	allowed(from("2001:db8:0:2::3"), true)
	for range 4 { // the proxy for itself
		allowed(header(0x20, 0, ""), true)
	}
	_ = first.Close()
	_ = first.Close()
	allowed(from("192.0.2.1"), true)
	allowed(from("192.0.2.1"), false)
	if got, want := counts(l.counters), "refused address 3"; got != want {
		t.Errorf("%s, want %s", got, want)
	}

	client := dial()
	write(t, client, from("192.0.2.1")+"GET / HTTP/1.1\r\n\r\n")
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = accept(t, l).Handshake()
	}()
	if got, err := io.ReadAll(client); string(got) != refusal || err != nil {
		t.Errorf("refused with %q, %v", got, err)
	}
	_ = client.Close()
	<-done
}

// TestPerAddressDirect: without a proxy the bound holds in Accept.
func TestPerAddressDirect(t *testing.T) {
	l, dial := listenTCP(t, Config{PerAddress: 1, Refusal: []byte(refusal)})
	dial()
	first := accept(t, l)
	over := dial()
	read := make(chan string)
	go func() {
		b, _ := io.ReadAll(over)
		_ = over.Close()
		read <- string(b)
	}()
	go func() {
		<-read
		_ = first.Close()
		dial()
	}()
	second := accept(t, l) // past the refused one
	if l.Open() != 1 || counts(l.counters) != "refused address 1" {
		t.Errorf("%d open, %s", l.Open(), counts(l.counters))
	}
	_ = second.Close()
	for i := range l.addresses.shards {
		if n := len(l.addresses.shards[i].open); n != 0 {
			t.Errorf("%d addresses are still counted", n)
		}
	}
}

// TestBoundsUnderConcurrency: never one too many, and in the end nothing is
// counted.
func TestBoundsUnderConcurrency(t *testing.T) {
	const bound, workers, rounds = 3, 16, 300
	l := Listen(newPipes(), Config{PerAddress: bound, Connections: 4 * bound})
	defer l.Close()
	var total atomic.Int64
	var each [6]atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range rounds {
				who := rand.IntN(len(each))
				ours, theirs := net.Pipe()
				c := newConn(l, theirs)
				if !l.enter() {
					_ = c.Close()
					_ = ours.Close()
					continue
				}
				c.open = true
				if n := total.Add(1); n > 4*bound {
					t.Errorf("%d connections", n)
				}
				c.peer = netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(who)}), 1)
				if c.count() {
					if n := each[who].Add(1); n > bound {
						t.Errorf("%d of one address", n)
					}
					each[who].Add(-1)
				}
				total.Add(-1)
				var both sync.WaitGroup
				both.Go(func() { _ = c.Close() })
				both.Go(func() { _ = c.Close() })
				both.Wait()
				_ = ours.Close()
			}
		})
	}
	wg.Wait()
	left := 0
	for i := range l.addresses.shards {
		left += len(l.addresses.shards[i].open)
	}
	if left != 0 || l.Open() != 0 || l.counters.Open.Load() != 0 {
		t.Errorf("%d addresses and %d connections are counted in the end", left, l.Open())
	}
}

func TestCounted(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"192.0.2.1", "192.0.2.1"},
		{"::ffff:192.0.2.1", "192.0.2.1"},
		{"2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"},
		{"fe80::1%eth0", "fe80::"},
		{"::1", "::"},
	} {
		if got := counted(addr(tt.in)).String(); got != tt.want {
			t.Errorf("%s counts as %s, want %s", tt.in, got, tt.want)
		}
	}
}

// lacking fails as a process without file descriptors does, and then for
// good.
type lacking struct {
	net.Listener
	lacks int
}

func (l *lacking) Accept() (net.Conn, error) {
	if l.lacks--; l.lacks >= 0 {
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return nil, fmt.Errorf("accept: %w", net.ErrClosed)
}

func TestAcceptErrors(t *testing.T) {
	l := Listen(&lacking{newPipes(), 2}, Config{})
	defer l.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) || l.counters.AcceptErrors.Load() != 2 {
		t.Errorf("%v after %d lacks", err, l.counters.AcceptErrors.Load())
	}
	l = Listen(&lacking{newPipes(), 1 << 30}, Config{})
	_ = l.Close()
	if _, err := l.Accept(); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("closed and lacking: %v", err)
	}
}

func TestDeadline(t *testing.T) {
	l, _ := listenTCP(t, Config{})
	if err := l.SetDeadline(time.Now()); err != nil {
		t.Error(err)
	}
	if _, err := l.Accept(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("accept: %v", err)
	}
	in := Listen(newPipes(), Config{})
	defer in.Close()
	if err := in.SetDeadline(time.Now()); !errors.Is(err, os.ErrNoDeadline) || in.Addr().String() != "pipes" {
		t.Errorf("in memory: %v, %s", err, in.Addr())
	}
}
