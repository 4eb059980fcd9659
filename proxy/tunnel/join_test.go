package tunnel

import (
	"context"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const second = time.Second

// Each script is played at its exact virtual time; what both peers and the
// caller of Join saw is the picture.
func TestJoin(t *testing.T) {
	raw := Options{Idle: 10 * second, MaxAge: time.Hour}
	ws := raw
	ws.WebSocket = true
	aged := func(o Options) Options { o.MaxAge = 15 * second; return o }
	early := func(o Options) Options {
		o.ClientEarly, o.BackendEarly = []byte("\x81\x82\x00\x00\x00\x00hi"), []byte("\x81\x02yo")
		return o
	}
	silent := func(s *scene) { s.client.silent, s.backend.silent = true, true }
	big := strings.Repeat("x", 100_000)
	// chatter has both sides talk every second.
	chatter := func(s *scene, times int) {
		for range times {
			s.wait(second)
			s.client.send(s.client.text("a"))
		}
	}

	tests := []struct {
		name    string
		options Options
		script  func(s *scene)
		want    string
	}{
		{
			"an end is passed on, and the other direction goes on", raw, func(s *scene) {
				silent(s)
				s.begin()
				s.client.send("question")
				s.client.finish()
				s.wait(3 * second)
				s.backend.send("ans")
				s.wait(3 * second)
				s.backend.send("wer")
				s.backend.finish()
			},
			`client: 3s ans, 6s wer, 6s end
			backend: 0s question, 0s end
			client_closed 8 6 at 6s`,
		},
		{
			"half closed, then idle", raw, func(s *scene) {
				silent(s)
				s.begin()
				s.backend.finish()
				s.client.send("x")
			},
			`client: 0s end
			backend: 0s x, 10s end
			idle 1 0 at 15s`,
		},
		{
			"half closed by a backend, then by the client", raw, func(s *scene) {
				s.begin()
				s.backend.finish()
			},
			`client: 0s end
			backend: 0s end
			backend_closed 0 0 at 0s`,
		},
		{
			"traffic of either side keeps a tunnel from idling", raw, func(s *scene) {
				s.begin()
				s.wait(8 * second)
				s.client.send("a")
				s.wait(8 * second)
				s.backend.send("b")
			},
			`client: 16s b, 26s end
			backend: 8s a, 26s end
			idle 1 1 at 26s`,
		},
		{
			"age", aged(raw), func(s *scene) {
				silent(s)
				s.begin()
				s.wait(8 * second)
				s.client.send("a")
				s.wait(8 * second)
				s.client.send("too late")
			},
			`client: 15s end
			backend: 8s a, 15s end
			age 1 0 at 20s`,
		},
		{
			"a long time without bounds",
			Options{},
			func(s *scene) {
				silent(s)
				s.begin()
				s.wait(1000 * time.Hour)
				s.client.send("a")
				s.client.finish()
				s.wait(0)
				s.backend.finish()
			},
			`client: 1000h0m0s end
			backend: 1000h0m0s a, 1000h0m0s end
			client_closed 1 0 at 1000h0m0s`,
		},
		{
			"what was read early comes first", early(ws), func(s *scene) {
				s.begin()
				s.client.send(s.client.text("there"), s.client.close(1000))
			},
			`client: 0s text yo, 0s close 1000, 0s end
			backend: 0s masked text hi, 0s masked text there, 0s masked close 1000, 0s end
			client_closed 27 8 at 0s`,
		},
		{
			"the client closes", ws, func(s *scene) {
				s.begin()
				s.client.send(s.client.close(4001))
			},
			`client: 0s close 4001, 0s end
			backend: 0s masked close 4001, 0s end
			client_closed 8 4 at 0s`,
		},
		{
			"both say Close, and neither goes", ws, func(s *scene) {
				silent(s)
				s.begin()
				s.backend.send(s.backend.close(1000))
				s.wait(second)
				s.client.send(s.client.close(1000))
			},
			`client: 0s close 1000, 6s end
			backend: 1s masked close 1000, 6s end
			backend_closed 8 4 at 6s`,
		},
		{
			"a client that vanishes", ws, func(s *scene) {
				s.begin()
				s.client.send(s.client.text("a"))
				s.client.conn.Close()
			},
			`client: 0s end
			backend: 0s masked text a, 0s end
			client_closed 7 0 at 0s`,
		},
		{
			"a backend that ends, and a client that does not care", ws, func(s *scene) {
				s.client.silent = true
				s.begin()
				s.backend.send(s.backend.text("bye"))
				s.backend.conn.Close()
				s.wait(2 * second)
				s.client.send(s.client.text("still there?"), s.client.text("hello?"))
			},
			`client: 0s text bye, 0s end
			backend: 0s end
			backend_closed 0 5 at 5s`,
		},
		{
			"idle", ws, func(s *scene) {
				s.begin()
				s.wait(8 * second)
				s.backend.send(frame(0x89, "", false))
			},
			`client: 8s ping , 18s close 1001, 18s end
			backend: 18s masked close 1001, 18s end
			idle 0 2 at 18s`,
		},
		{
			"age in the midst of talk, and nobody answers", aged(ws), func(s *scene) {
				silent(s)
				s.begin()
				s.wait(second / 2)
				chatter(s, 18)
			},
			`client: 15s close 1001, 20s end
			backend: ` + talk(14) + `15s masked close 1001, 20s end
			age 98 0 at 20s`,
		},
		{
			"drain while silent", ws, func(s *scene) {
				s.begin()
				s.wait(3 * second)
				s.drain(30 * second)
			},
			`client: 3s close 1001, 3s end
			backend: 3s masked close 1001, 3s end
			drained at 3s: <nil>
			drained 0 0 at 3s`,
		},
		{
			"drain, and nobody answers", ws, func(s *scene) {
				silent(s)
				s.begin()
				s.drain(30 * second)
			},
			`client: 0s close 1001, 30s end
			backend: 0s masked close 1001, 30s end
			drained at 30s: drain tunnels: 1 cut: context deadline exceeded
			drained 0 0 at 30s`,
		},
		{
			"drain, and the answers differ", ws, func(s *scene) {
				silent(s)
				s.begin()
				s.drain(30 * second)
				s.wait(second)
				s.client.send(s.client.text("dropped"), s.client.close(1000))
				s.wait(second)
				s.backend.send(s.backend.close(1001))
			},
			`client: 0s close 1001, 2s end
			backend: 0s masked close 1001, 2s end
			drained at 2s: <nil>
			drained 0 0 at 2s`,
		},
		{
			"drain within a frame: both sides are closed behind it", ws, func(s *scene) {
				s.begin()
				whole := s.client.text(big)
				s.client.send(whole[:50_000])
				s.drain(30 * second)
				s.wait(9 * second)
				s.client.send(whole[50_000:])
			},
			`client: 9s close 1001, 9s end
			backend: 9s masked text 100000 bytes, 9s masked close 1001, 9s end
			drained at 9s: <nil>
			drained 100014 0 at 9s`,
		},
		{
			"drain within a message that ends soon", ws, func(s *scene) {
				s.begin()
				s.backend.send(frame(0x01, "one", false))
				s.drain(30 * second)
				s.wait(second)
				s.backend.send(frame(0x00, "two", false), frame(0x89, "", false), frame(0x80, "three", false))
			},
			`client: 0s text… one, 1s cont… two, 1s ping , 1s cont three, 1s close 1001, 1s end
			backend: 1s masked close 1001, 1s end
			drained at 1s: <nil>
			drained 0 19 at 1s`,
		},
		{
			"drain within a message that does not end soon", ws, func(s *scene) {
				silent(s)
				s.begin()
				s.backend.send(frame(0x01, "one", false))
				s.drain(30 * second)
				s.wait(16 * second)
				s.backend.send(frame(0x80, "two", false), s.backend.close(1000))
				s.client.send(s.client.close(1001))
			},
			`client: 0s text… one, 15s close 1001, 16s end
			backend: 15s masked close 1001, 16s end
			drained at 16s: <nil>
			drained 0 5 at 16s`,
		},
		{
			"drain with the boundary inside one read", ws, func(s *scene) {
				silent(s)
				s.begin()
				s.client.send(s.client.text("one")[:4])
				s.drain(30 * second)
				s.client.send(append(s.client.text("one")[4:], s.client.text("two")...))
				s.wait(0)
				s.client.send(s.client.close(1001))
				s.backend.send(s.backend.close(1001))
			},
			`client: 0s close 1001, 0s end
			backend: 0s masked text one, 0s masked close 1001, 0s end
			drained at 0s: <nil>
			drained 9 0 at 0s`,
		},
		{
			"drain during a close handshake leaves it alone", ws, func(s *scene) {
				silent(s)
				s.begin()
				s.client.send(s.client.close(4001))
				s.wait(second)
				s.drain(30 * second)
				s.wait(second)
				s.backend.send(s.backend.text("last"), s.backend.close(4001))
			},
			`client: 2s text last, 2s close 4001, 2s end
			backend: 0s masked close 4001, 2s end
			drained at 2s: <nil>
			drained 8 10 at 2s`,
		},
		{
			"drain within a frame that never ends", ws, func(s *scene) {
				s.client.silent = true
				s.begin()
				s.client.send(s.client.text("one")[:4])
				s.drain(4 * second)
			},
			`client: 2s close 1001, 4s end
			backend: 4s part of a frame, 4s end
			drained at 4s: drain tunnels: 1 cut: context deadline exceeded
			drained 4 0 at 4s`,
		},
		{
			"drain of what is not WebSocket though it said so", ws, func(s *scene) {
				s.begin()
				s.backend.send("\x88\x7enot WebSocket")
				s.drain(30 * second)
			},
			`client: 0s part of a frame, 0s end
			backend: 0s masked close 1001, 0s end
			drained at 0s: <nil>
			drained 0 15 at 0s`,
		},
		{
			"drain of another protocol", raw, func(s *scene) {
				s.begin()
				s.drain(30 * second)
				s.wait(8 * second)
				s.client.send("a")
				s.wait(8 * second)
				s.client.send("b")
				s.wait(8 * second)
				s.client.send("c")
			},
			`client: 30s end
			backend: 8s a, 16s b, 24s c, 30s end
			drained at 30s: drain tunnels: 1 cut: context deadline exceeded
			drained 3 0 at 30s`,
		},
		{
			"drain of another protocol that ends by itself", raw, func(s *scene) {
				s.begin()
				s.drain(30 * second)
				s.wait(8 * second)
				s.client.finish()
			},
			`client: 8s end
			backend: 8s end
			drained at 8s: <nil>
			client_closed 0 0 at 8s`,
		},
		{
			"age within a message that does not end", aged(ws), func(s *scene) {
				silent(s)
				s.begin()
				s.wait(9 * second)
				s.backend.send(frame(0x01, "one", false))
			},
			`client: 9s text… one, 17s close 1001, 20s end
			backend: 17s masked close 1001, 20s end
			age 0 5 at 20s`,
		},
		{
			"a backend that stops reading", raw, func(s *scene) {
				s.backend.deaf = true
				s.begin()
				go s.client.send(big)
				s.wait(9 * second)
				s.backend.send("b") // the other direction is not silent
				s.wait(10 * second)
			},
			`client: 9s b, 17.5s end
			backend: 
			backend_error 0 1 at 17.5s: a write made no progress within the idle time`,
		},
		{
			"an end while the other direction is stuck", ws, func(s *scene) {
				s.client.silent, s.backend.deaf = true, true
				s.begin()
				go s.client.send(s.client.text(big))
				s.wait(second)
				s.backend.finish()
			},
			`client: 1s end, 6s cannot send
			backend: 
			backend_closed 0 0 at 6s`,
		},
		{
			"sides that stop reading grow old all the same", aged(Options{MaxAge: 1}), func(s *scene) {
				s.client.deaf, s.backend.deaf = true, true
				s.begin()
				go s.client.send("a")
				go s.backend.send("b")
			},
			`client: 
			backend: 
			age 0 0 at 20s`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := play(t, false, tt.options, tt.script)
			if want := strings.ReplaceAll(tt.want, "\t", ""); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// talk is what a backend logs of n seconds of chatter.
func talk(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString((time.Duration(i+1)*second + second/2).String() + " masked text a, ")
	}
	return b.String()
}

// A connection that cannot end one direction takes the other with it, once
// that has written what it holds.
func TestJoinWithoutHalves(t *testing.T) {
	f := func(o Options, script func(s *scene), want string) {
		t.Helper()
		got := play(t, true, o, script)
		if want = strings.ReplaceAll(want, "\t", ""); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
	f(Options{}, func(s *scene) {
		s.begin()
		s.client.send("a")
		s.client.finish()
	}, `client: 0s end
		backend: 0s a, 0s end
		client_closed 1 0 at 0s`)
	f(Options{Idle: 10 * second}, func(s *scene) {
		s.begin()
	}, `client: 10s end
		backend: 10s end
		idle 0 0 at 10s`)
	f(Options{WebSocket: true}, func(s *scene) {
		s.begin()
		s.drain(second)
	}, `client: 0s close 1001, 0s end
		backend: 0s masked close 1001, 0s end
		drained at 0s: <nil>
		drained 0 0 at 0s`)
}

func TestJoinAfterDrain(t *testing.T) {
	for name, o := range map[string]Options{"raw": {}, "WebSocket": {WebSocket: true}} {
		t.Run(name, func(t *testing.T) {
			s := NewSet()
			if err := s.Drain(context.Background()); err != nil {
				t.Fatal(err)
			}
			c, gc := tcp(t)
			gb, b := tcp(t)
			if r := s.Join(gc, gb, o); r != (Result{Reason: Drained}) || s.Len() != 0 {
				t.Errorf("%+v, %d left", r, s.Len())
			}
			for _, conn := range []net.Conn{c, b} {
				want := "end"
				if o.WebSocket {
					want = map[net.Conn]string{c: "close 1001", b: "masked close 1001"}[conn] + ", end"
				}
				if got := pictures(conn); got != want {
					t.Errorf("got %s, want %s", got, want)
				}
			}
			if err := s.Drain(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
}

// talker sends whole messages without end, until it is told to go. It answers
// Close when its message is through.
type talker struct {
	conn   net.Conn
	masked bool
	mu     sync.Mutex // held for a message
	gone   bool
}

func (p *talker) talk(seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	for {
		p.mu.Lock()
		if p.gone {
			p.mu.Unlock()
			return
		}
		for first, left := byte(0x01), r.IntN(4); left >= 0; first, left = 0, left-1 {
			if left == 0 {
				first |= 0x80
			}
			b := frame(first, strings.Repeat("x", r.IntN(300)), p.masked)
			for len(b) > 0 {
				n := 1 + r.IntN(len(b))
				if _, err := p.conn.Write(b[:n]); err != nil {
					p.gone = true
					break
				}
				b = b[n:]
			}
		}
		p.mu.Unlock()
	}
}

// listen reads to the end and returns what there was of a message last, and
// what came behind messages.
func (p *talker) listen() string {
	last, rest := "", ""
	for {
		picture, first, _, err := readFrame(p.conn)
		switch {
		case err != nil:
			return last + rest + "; " + err.Error()
		case first&8 == 0:
			last = map[bool]string{false: "part of a message", true: "a message"}[first&0x80 != 0]
			continue
		}
		rest += "; " + picture
		p.mu.Lock()
		p.gone = true
		_, _ = p.conn.Write(frame(0x88, "\x03\xe9", p.masked))
		p.mu.Unlock()
	}
}

// Whenever a drain comes, both sides see whole frames and whole messages, then
// one Close, then the end; and nobody has to wait for it.
func TestDrainAnywhere(t *testing.T) {
	f := func(t *testing.T, i uint64) {
		start := time.Now()
		c, gc := newDuplex()
		gb, b := newDuplex()
		set := NewSet()
		over := make(chan Result, 1)
		go func() { over <- set.Join(gc, gb, Options{WebSocket: true, Idle: time.Minute}) }()
		client, backend := &talker{conn: c, masked: true}, &talker{conn: b}
		var all sync.WaitGroup
		all.Go(func() { client.talk(i) })
		all.Go(func() { backend.talk(i + 1000) })
		heard := make(chan string, 1)
		go func() { heard <- client.listen() }()
		all.Go(func() {
			for set.Len() == 0 {
				runtime.Gosched()
			}
			for range i * 14 {
				runtime.Gosched()
			}
			ctx, cancel := context.WithTimeout(context.Background(), 20*second)
			defer cancel()
			if err := set.Drain(ctx); err != nil {
				t.Error(err)
			}
		})
		if got := strings.TrimPrefix(backend.listen(), "a message"); got != "; masked close 1001; EOF" {
			t.Errorf("backend: %s", got)
		}
		if got := strings.TrimPrefix(<-heard, "a message"); got != "; close 1001; EOF" {
			t.Errorf("client: %s", got)
		}
		all.Wait()
		if r := <-over; r.Reason != Drained || r.Err != nil || time.Since(start) != 0 {
			t.Errorf("%+v after %v", r, time.Since(start))
		}
		c.Close()
		b.Close()
	}
	for i := range uint64(50) {
		synctest.Test(t, func(t *testing.T) { f(t, i) })
	}
}
