package ratelimittest

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Relay is a TCP relay that makes a server slow. It ends with the test.
type Relay struct {
	// Addr is where it listens.
	Addr string

	delay atomic.Int64 // ns that each piece of an answer is held back
	mu    sync.Mutex
	conns map[net.Conn]bool // guarded by mu
}

// NewRelay starts a relay to addr.
func NewRelay(t testing.TB, addr string) *Relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &Relay{Addr: l.Addr().String(), conns: map[net.Conn]bool{}}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", addr)
			if err != nil {
				in.Close()
				continue
			}
			r.mu.Lock()
			r.conns[in], r.conns[out] = true, true
			r.mu.Unlock()
			wg.Go(func() { r.pump(out, in, false) })
			wg.Go(func() { r.pump(in, out, true) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		r.mu.Lock()
		for c := range r.conns {
			c.Close()
		}
		r.mu.Unlock()
		wg.Wait()
	})
	return r
}

// Delay holds answers back for d from now on.
func (r *Relay) Delay(d time.Duration) { r.delay.Store(int64(d)) }

func (r *Relay) pump(to, from net.Conn, answers bool) {
	defer func() {
		to.Close()
		from.Close()
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if d := time.Duration(r.delay.Load()); d > 0 && answers {
			<-time.After(d)
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
