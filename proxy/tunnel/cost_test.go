//go:build unix

package tunnel

import (
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fileLimit raises the limit of open files to at least n, where that is
// allowed, and returns what it is.
func fileLimit(tb testing.TB, n uint64) uint64 {
	tb.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		tb.Fatal(err)
	}
	if limit.Cur >= n {
		return limit.Cur
	}
	before := limit
	raised := unix.Rlimit{Cur: n, Max: max(n, limit.Max)}
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &raised) == nil {
		tb.Cleanup(func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &before) })
		return n
	}
	return limit.Cur
}

// socketPair is two ends of one Unix socket.
func socketPair(tb testing.TB) (a, b net.Conn) {
	tb.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		tb.Fatal(err)
	}
	var conns [2]net.Conn
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "")
		if conns[i], err = net.FileConn(file); err != nil {
			tb.Fatal(err)
		}
		file.Close()
	}
	return conns[0], conns[1]
}

// memory is what is in use of heap and stacks.
func memory() (heap, stack uint64) {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // pools forget in two steps
	runtime.ReadMemStats(&m)
	return m.HeapAlloc, m.StackInuse
}

// A silent tunnel costs two stacks and little else, after a message as before.
// The tunnels are one chain, each one's backend the next one's client, so that
// one message passes them all and they cost two descriptors each.
func TestIdleMemory(t *testing.T) {
	const bound = 12 << 10 // bytes of heap and stack for a tunnel
	n := 10_000
	if raceEnabled {
		n = 1000
	}
	n = min(n, int(fileLimit(t, uint64(2*n+200))-200)/2)
	type link struct{ client, backend net.Conn }
	links := make([]link, n)
	first, next := socketPair(t)
	for i := range links {
		links[i].client = next
		links[i].backend, next = socketPair(t)
	}
	last := next
	set := NewSet()
	heap, stack := memory()

	var all sync.WaitGroup
	for _, l := range links {
		all.Go(func() {
			set.Join(l.client, l.backend, Options{WebSocket: true, Idle: time.Hour, MaxAge: 24 * time.Hour})
		})
	}
	message := string(frame(0x82, strings.Repeat("x", 4000), true))
	for range 2 {
		go send(t, first, message)
		receive(t, last, message)
		go send(t, last, message)
		receive(t, first, message)
	}
	heapNow, stackNow := memory()
	each := func(now, then uint64) int { return (int(now) - int(then)) / n }
	t.Logf("%d silent tunnels: %d bytes of heap and %d of stack each", n, each(heapNow, heap), each(stackNow, stack))
	if got := each(heapNow+stackNow, heap+stack); got > bound && !raceEnabled {
		t.Errorf("%d bytes each, of %d", got, bound)
	}
	first.Close()
	last.Close()
	all.Wait()
	runtime.KeepAlive(links)
}

// echoRaw sends back what comes, without allocating, and closes at the end.
func echoRaw(c net.Conn) {
	defer c.Close()
	b := make([]byte, 64<<10)
	for {
		n, err := c.Read(b)
		if err != nil {
			return
		}
		if _, err := c.Write(b[:n]); err != nil {
			return
		}
	}
}

func TestNoAllocations(t *testing.T) {
	f := func(name string, o Options) {
		client, backend, result := joined(t, NewSet(), o)
		go echoRaw(backend)
		message := frame(0x81, strings.Repeat("x", 1000), true)
		back := make([]byte, len(message))
		n := testing.AllocsPerRun(500, func() {
			if _, err := client.Write(message); err != nil {
				t.Error(err)
			}
			if _, err := io.ReadFull(client, back); err != nil {
				t.Error(err)
			}
		})
		// The race detector makes sync.Pool forget at random.
		if n != 0 && !raceEnabled {
			t.Errorf("%s: %v allocations a message", name, n)
		}
		client.Close()
		<-result
	}
	f("raw", Options{Idle: time.Minute})
	f("WebSocket", Options{WebSocket: true, Idle: time.Minute, MaxAge: time.Hour, Bytes: func(_, _ int64) {}})
}

// copied is what a tunnel is measured against: two times io.Copy, which moves
// bytes between sockets within the kernel, or the same by a buffer.
func copied(tb testing.TB, buffered bool) (client, backend *net.TCPConn) {
	client, gc := tcp(tb)
	gb, backend := tcp(tb)
	for _, way := range [][2]net.Conn{{gc, gb}, {gb, gc}} {
		go func() {
			var to io.Writer = way[1]
			var from io.Reader = way[0]
			if buffered {
				to, from = struct{ io.Writer }{to}, struct{ io.Reader }{from}
			}
			_, _ = io.CopyBuffer(to, from, make([]byte, bufferSize))
			way[0].Close()
			way[1].Close()
		}()
	}
	return client, backend
}

// ways are a tunnel and what it is measured against.
func ways(b *testing.B, f func(b *testing.B, client, backend *net.TCPConn)) {
	b.Run("direct", func(b *testing.B) {
		client, backend := tcp(b)
		f(b, client, backend)
	})
	b.Run("splice", func(b *testing.B) {
		client, backend := copied(b, false)
		f(b, client, backend)
	})
	b.Run("copy", func(b *testing.B) {
		client, backend := copied(b, true)
		f(b, client, backend)
	})
	b.Run("tunnel", func(b *testing.B) {
		client, backend, result := joined(b, NewSet(), Options{WebSocket: true, Idle: time.Minute, MaxAge: time.Hour, Bytes: func(_, _ int64) {}})
		f(b, client, backend)
		client.Close()
		backend.Close()
		<-result
	})
}

// BenchmarkThroughput sends messages of 1 MiB one way.
func BenchmarkThroughput(b *testing.B) {
	ways(b, func(b *testing.B, client, backend *net.TCPConn) {
		message := frame(0x82, strings.Repeat("x", 1<<20), true)
		in := make([]byte, len(message))
		got := make(chan struct{}, 1)
		go func() {
			for {
				if _, err := io.ReadFull(backend, in); err != nil {
					close(got)
					return
				}
				got <- struct{}{}
			}
		}()
		b.SetBytes(int64(len(message)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := client.Write(message); err != nil {
				b.Fatal(err)
			}
			<-got
		}
		client.Close()
		for range got {
		}
	})
}

// BenchmarkEcho is a message of 64 bytes there and back.
func BenchmarkEcho(b *testing.B) {
	ways(b, func(b *testing.B, client, backend *net.TCPConn) {
		go echoRaw(backend)
		message := frame(0x81, strings.Repeat("x", 64), true)
		back := make([]byte, len(message))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := client.Write(message); err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(client, back); err != nil {
				b.Fatal(err)
			}
		}
		client.Close()
	})
}
