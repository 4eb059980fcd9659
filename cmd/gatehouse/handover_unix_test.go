//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// holder is a process that serves a socket, without the rest of a gateway.
type holder struct {
	*handover
	t      *testing.T
	log    *lines
	ending chan struct{}
}

func hold(t *testing.T, folder string, limit time.Duration) *holder {
	t.Helper()
	h := &holder{t: t, log: &lines{news: make(chan struct{}, 1)}, ending: make(chan struct{})}
	var s sockets
	for _, use := range []string{"data plane", "control plane"} {
		if _, err := s.listen(use, "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	h.handover = &handover{
		folder: folder, sockets: s.serving, limit: limit, ending: h.ending, taken: make(chan struct{}),
		log: slog.New(slog.NewTextHandler(h.log, nil)),
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { h.run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait(); s.close() })
	waitFor(t, func() bool {
		info, err := os.Stat(filepath.Join(folder, handoverName))
		if err != nil || info.Mode() != os.ModeSocket|0o600 {
			return false
		}
		// The file is there as soon as it is bound, and then listens.
		name, dir, err := socketName(folder)
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		c, err := net.Dial("unix", name)
		if err == nil {
			_ = c.Close() // a probe
		}
		return err == nil
	})
	return h
}

// dial speaks the protocol line by line.
func (h *holder) dial() *wire {
	h.t.Helper()
	name, folder, err := socketName(h.folder)
	if err != nil {
		h.t.Fatal(err)
	}
	defer folder.Close()
	c, err := net.Dial("unix", name)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = c.Close() })
	return &wire{conn: c.(*net.UnixConn)}
}

func (h *holder) say(w *wire, m message) string {
	h.t.Helper()
	if err := w.send(m); err != nil {
		h.t.Fatal(err)
	}
	return h.hear(w)
}

func (h *holder) hear(w *wire) string {
	h.t.Helper()
	m, files, err := w.receive(time.Minute)
	if errors.Is(err, io.EOF) {
		return "EOF"
	} else if err != nil {
		return err.Error()
	}
	closeFiles(files)
	return strings.TrimSpace(fmt.Sprintf("%s %d %s", m.Kind, len(files), m.Reason))
}

func (h *holder) expect(got, want string) {
	h.t.Helper()
	if got != want {
		h.t.Errorf("got %q, want %q", got, want)
	}
}

// The process that serves leaves for one reason only: another is ready. What
// else may happen leaves it as it was, and open to the next who asks.
func TestHandover(t *testing.T) {
	const offered = "offer 2"
	for _, tt := range []struct {
		name  string
		limit time.Duration
		play  func(h *holder)
		taken bool
	}{
		{"ready", time.Minute, func(h *holder) {
			w := h.dial()
			h.expect(h.say(w, newMessage(hello)), offered)
			h.expect(h.say(w, newMessage(ready)), "yours 0")
			<-h.taken
			h.expect(h.say(h.dial(), newMessage(hello)), "refused 0 another process is taking over already")
		}, true},
		{"gone after the offer", time.Minute, func(h *holder) {
			w := h.dial()
			h.expect(h.say(w, newMessage(hello)), offered)
			_ = w.conn.Close()
			h.await("takeover did not come about; this process goes on")
			h.expect(h.say(h.dial(), newMessage(hello)), offered)
		}, false},
		{"gone before it can be told", time.Minute, func(h *holder) {
			w := h.dial()
			h.expect(h.say(w, newMessage(hello)), offered)
			if err := w.conn.CloseRead(); err != nil {
				h.t.Fatal(err)
			}
			if err := w.send(newMessage(ready)); err != nil {
				h.t.Fatal(err)
			}
			h.await("broken pipe")
		}, false},
		{"never ready", 10 * time.Millisecond, func(h *holder) {
			w := h.dial()
			h.expect(h.say(w, newMessage(hello)), offered)
			h.expect(h.hear(w), "refused 0 the new process was not ready within 10ms")
			h.expect(h.hear(w), "EOF")
			h.await("this process goes on")
		}, false},
		{"nonsense after the offer", time.Minute, func(h *holder) {
			w := h.dial()
			h.expect(h.say(w, newMessage(hello)), offered)
			h.expect(h.say(w, newMessage(hello)), "EOF")
			h.await("the new process was not ready")
		}, false},
		{"nonsense in place of hello", time.Minute, func(h *holder) {
			w := h.dial()
			if _, err := io.WriteString(w.conn, "GET / HTTP/1.1\r\n"); err != nil {
				h.t.Fatal(err)
			}
			h.expect(h.hear(w), "EOF")
		}, false},
		{"a line without end", time.Minute, func(h *holder) {
			w := h.dial()
			if _, err := w.conn.Write(bytes.Repeat([]byte("x"), maxMessage+1)); err != nil {
				h.t.Fatal(err)
			}
			if got := h.hear(w); got != "EOF" && !strings.Contains(got, "reset") {
				h.t.Errorf("got %q", got)
			}
		}, false},
		{"another version", time.Minute, func(h *holder) {
			m := newMessage(hello)
			m.Version = 2
			h.expect(h.say(h.dial(), m), "refused 0 it speaks version 1 of the handover, not 2")
		}, false},
		{"two at once", time.Minute, func(h *holder) {
			h.expect(h.say(h.dial(), newMessage(hello)), offered)
			h.expect(h.say(h.dial(), newMessage(hello)), "refused 0 another process is taking over already")
		}, false},
		{"ending", time.Minute, func(h *holder) {
			w := h.dial()
			h.expect(h.say(w, newMessage(hello)), offered)
			close(h.ending)
			h.expect(h.say(h.dial(), newMessage(hello)), "refused 0 it is ending; start again when it has")
			h.expect(h.say(w, newMessage(ready)), "yours 0") // who has the sockets may keep them
			<-h.taken
		}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := hold(t, t.TempDir(), tt.limit)
			tt.play(h)
			if got := closed(h.taken); got != tt.taken {
				t.Errorf("taken: %v", got)
			}
		})
	}
}

func (h *holder) await(text string) {
	h.t.Helper()
	waitFor(h.t, func() bool { return strings.Contains(h.log.String(), text) })
}

// A connection that waits in the queue of a socket is the next process's. A
// socket is taken for its use and an address, configured or bound; what is not
// asked for is closed.
func TestInheritedSockets(t *testing.T) {
	folder := t.TempDir()
	h := hold(t, folder, time.Minute)
	data, control := h.sockets[0], h.sockets[1]
	waiting, err := net.Dial("tcp", data.Bound)
	if err != nil {
		t.Fatal(err)
	}
	defer waiting.Close()
	p, err := askPredecessor(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.succeed(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-h.taken
	for _, s := range h.sockets {
		_ = s.listener.Close() // as the process before does
	}
	s := sockets{inherited: p.sockets}
	defer s.close()
	l, err := s.listen("data plane", data.Bound)
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.RemoteAddr().String() != waiting.LocalAddr().String() {
		t.Errorf("accepted %v, not the one that waited", c.RemoteAddr())
	}

	// The control plane's is not for the data plane.
	if _, err := s.listen("data plane", control.Bound); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("the socket of another use: %v", err)
	}
	s.decline()
	if c, err := net.Dial("tcp", control.Bound); err == nil {
		c.Close()
		t.Error("a socket that nobody asked for still listens")
	}
	l, err = s.listen("control plane", "127.0.0.1:0")
	if err != nil || l.Addr().String() == control.Bound {
		t.Errorf("another address: %v, %v", l, err)
	}
}

// The new process goes on alone only when the one before can do nothing any
// more: it has said so, or has gone.
func TestSucceed(t *testing.T) {
	f := func(name string, play func(old *wire), want string) {
		t.Helper()
		folder := t.TempDir()
		l, err := net.Listen("unix", filepath.Join(folder, handoverName))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		var old sync.WaitGroup
		defer old.Wait()
		old.Go(func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			w := &wire{conn: c.(*net.UnixConn)}
			if _, _, err := w.receive(time.Minute); err == nil && w.send(newMessage(offer)) == nil {
				play(w)
			}
		})
		p, err := askPredecessor(t.Context(), folder)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		defer p.close()
		got := "yours"
		if err := p.succeed(t.Context()); errors.Is(err, errGone) {
			got = "gone"
		} else if err != nil {
			got = strings.ReplaceAll(err.Error(), fmt.Sprint(os.Getpid()), "N")
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	after := func(play func(w *wire)) func(w *wire) {
		return func(w *wire) {
			if m, _, err := w.receive(time.Minute); err == nil && m.Kind == ready {
				play(w)
			}
		}
	}
	f("yours", after(func(w *wire) { _ = w.send(newMessage(yours)) }), "yours")
	f("gone before", func(*wire) {}, "gone")
	f("gone after", after(func(*wire) {}), "gone")
	f("refused", after(func(w *wire) { w.refuse("why") }), "process N refuses: why")
	f("refused and gone before", func(w *wire) { w.refuse("why") }, "process N refuses: why")
	f("nonsense", after(func(w *wire) { _ = w.send(newMessage(offer)) }), `process N says "offer" in place of "yours"`)
}

// The new process, with signals and with what the process before may do while
// it is asked. play is the process before, which has said nothing yet; what it
// leaves undone must be in force when the new process has ended.
func TestTakeoverAnswers(t *testing.T) {
	type before struct {
		*wire
		t       *testing.T
		lock    *os.File
		sockets []socket
	}
	hear := func(b *before, kind string) {
		b.t.Helper()
		if m, _, err := b.receive(time.Minute); err != nil || m.Kind != kind {
			b.t.Errorf("heard %q, %v, want %q", m.Kind, err, kind)
		}
	}
	tell := func(b *before, kind string) {
		b.t.Helper()
		m := newMessage(kind)
		if kind == offer {
			m.Sockets = b.sockets
		}
		if err := b.send(m); err != nil {
			b.t.Error(err)
		}
	}
	for _, tt := range []struct {
		name  string
		play  func(b *before, next *program)
		code  int
		want  string // on standard error
		taken bool
	}{
		{"yours", func(b *before, next *program) {
			hear(b, hello)
			tell(b, offer)
			hear(b, ready)
			tell(b, yours)
			next.await(next.stderr, "msg=serving")
			_ = b.lock.Close()
			next.await(next.stderr, "counters taken over")
			next.signal(syscall.SIGTERM)
		}, exitOK, "took over", true},
		{"gone before ready", func(b *before, next *program) {
			hear(b, hello)
			tell(b, offer)
			_ = b.conn.Close()
			_ = b.lock.Close()
			next.await(next.stderr, "msg=serving")
			next.signal(syscall.SIGTERM)
		}, exitOK, "took over", true},
		{"gone before yours", func(b *before, next *program) {
			hear(b, hello)
			tell(b, offer)
			hear(b, ready)
			_ = b.lock.Close()
			_ = b.conn.Close()
			next.await(next.stderr, "msg=serving")
			next.signal(syscall.SIGTERM)
		}, exitOK, "counters taken over", true},
		{"silent, and keeps the folder", func(b *before, _ *program) {
			hear(b, hello)
			tell(b, offer)
			hear(b, ready)
			_ = b.conn.Close()
		}, exitError, "take over: the process before has gone", false},
		{"refused at once", func(b *before, _ *program) {
			hear(b, hello)
			b.refuse("because")
		}, exitError, "refuses: because", false},
		{"refused late", func(b *before, _ *program) {
			hear(b, hello)
			tell(b, offer)
			hear(b, ready)
			b.refuse("because")
		}, exitError, "refuses: because", false},
		{"SIGTERM before the offer", func(b *before, next *program) {
			hear(b, hello)
			next.signal(syscall.SIGTERM)
		}, exitError, "ended by a signal before it served", false},
		{"SIGTERM, then refused", func(b *before, next *program) {
			hear(b, hello)
			tell(b, offer)
			hear(b, ready)
			next.signal(syscall.SIGTERM)
			b.refuse("because")
		}, exitError, "refuses: because", false},
		{"SIGTERM, then yours", func(b *before, next *program) {
			hear(b, hello)
			tell(b, offer)
			hear(b, ready)
			next.signal(syscall.SIGTERM)
			tell(b, yours)
			_ = b.lock.Close()
		}, exitOK, "msg=draining", true},
		{"SIGKILL", func(b *before, next *program) {
			hear(b, hello)
			tell(b, offer)
			hear(b, ready)
			next.signal(syscall.SIGKILL)
		}, -1, "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			folder := t.TempDir()
			lock, err := lockFolder(folder)
			if err != nil {
				t.Fatal(err)
			}
			defer lock.Close()
			var s sockets
			defer s.close()
			for _, use := range []string{"data plane", "control plane"} {
				if _, err := s.listen(use, "127.0.0.1:0"); err != nil {
					t.Fatal(err)
				}
			}
			l, err := net.Listen("unix", filepath.Join(folder, handoverName))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			next := launch(t, "--takeover", "--config", settings(t, silent), "--tenants", tenants(t, "a"), "--data", folder)
			c, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = l.Close() // the name is free for the next
			waiting, err := net.Dial("tcp", s.serving[0].Bound)
			if err != nil {
				t.Fatal(err)
			}
			_ = waiting.Close() // it stays in the queue
			tt.play(&before{&wire{conn: c.(*net.UnixConn)}, t, lock, s.serving}, next)
			next.exits(tt.code)
			if !strings.Contains(next.stderr.String(), tt.want) {
				t.Errorf("no %q in\n%s", tt.want, next.stderr)
			}
			// Who was waiting is the new process's to serve, or still waits.
			accepting := s.serving[0].listener.(*net.TCPListener)
			if err := accepting.SetDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			_, err = accepting.Accept()
			if taken := err != nil; taken != tt.taken {
				t.Errorf("taken: %v, want %v", taken, tt.taken)
			}
		})
	}
}

// A silent process is not taken over, and cannot be told afterwards that it
// was: it would leave, and nobody would serve. What it said in time counts,
// also when it is read late.
func TestSilent(t *testing.T) {
	f := func(name string, early bool) {
		t.Helper()
		folder := t.TempDir()
		l, err := net.Listen("unix", filepath.Join(folder, handoverName))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		c, err := net.Dial("unix", filepath.Join(folder, handoverName))
		if err != nil {
			t.Fatal(err)
		}
		a, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		old := &wire{conn: a.(*net.UnixConn)}
		p := &predecessor{wire: wire{conn: c.(*net.UnixConn)}, limit: 10 * time.Millisecond}
		defer p.close()
		if early {
			if err := old.send(newMessage(yours)); err != nil {
				t.Fatal(err)
			}
			p.limit = -1 // it is over before the answer is read
		}
		switch err := p.succeed(t.Context()); {
		case early && err != nil:
			t.Errorf("%s: %v", name, err)
		case !early && (err == nil || errors.Is(err, errGone) || old.send(newMessage(yours)) == nil):
			t.Errorf("%s: %v, and the process before believes that it was heard", name, err)
		}
	}
	f("never", false)
	f("in time, read late", true)
}

// A folder whose name is longer than an address may be is handed over too.
func TestLongFolder(t *testing.T) {
	folder := filepath.Join(t.TempDir(), strings.Repeat("long", 50))
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	h := hold(t, folder, time.Minute)
	h.expect(h.say(h.dial(), newMessage(hello)), "offer 2")
}

// What a crash left is not in the way; a folder that holds something else by
// this name only turns takeover off.
func TestLeftSocket(t *testing.T) {
	folder := t.TempDir()
	write(t, filepath.Join(folder, handoverName), "left")
	h := hold(t, folder, time.Minute)
	h.expect(h.say(h.dial(), newMessage(hello)), "offer 2")

	folder = t.TempDir()
	if err := os.MkdirAll(filepath.Join(folder, handoverName, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	off := &handover{folder: folder, log: slog.New(slog.NewTextHandler(&out, nil))}
	off.run(t.Context())
	if !strings.Contains(out.String(), `msg="no process can take over from this one"`) {
		t.Errorf("log: %s", out.String())
	}
}
