package tunnel

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// frame is one WebSocket frame, masked by a fixed key where m is set.
func frame(first byte, payload string, m bool) []byte {
	b := []byte{first, 0}
	switch n := len(payload); {
	case n <= 125:
		b[1] = byte(n)
	case n <= 0xffff:
		b[1] = 126
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	default:
		b[1] = 127
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	if !m {
		return append(b, payload...)
	}
	key := [4]byte{1, 2, 3, 4}
	b[1] |= 0x80
	b = append(b, key[:]...)
	for i := range len(payload) {
		b = append(b, payload[i]^key[i%4])
	}
	return b
}

// readFrame reads one frame by the letter of RFC 6455, 5.2, and pictures it.
func readFrame(r io.Reader) (picture string, first byte, payload []byte, err error) {
	var head [2]byte
	if _, err = io.ReadFull(r, head[:]); err != nil {
		return "", 0, nil, err
	}
	length := uint64(head[1] & 0x7f)
	if n := map[uint64]int{126: 2, 127: 8}[length]; n > 0 {
		var ext [8]byte
		if _, err = io.ReadFull(r, ext[8-n:]); err != nil {
			return "", 0, nil, err
		}
		length = binary.BigEndian.Uint64(ext[:])
	}
	var key [4]byte
	if head[1]&0x80 != 0 {
		if _, err = io.ReadFull(r, key[:]); err != nil {
			return "", 0, nil, err
		}
		picture = "masked "
	}
	payload = make([]byte, length)
	if _, err = io.ReadFull(r, payload); err != nil {
		return "", 0, nil, err
	}
	for i := range payload {
		payload[i] ^= key[i%4]
	}
	picture += map[byte]string{0: "cont", 1: "text", 2: "bin", 8: "close", 9: "ping", 10: "pong"}[head[0]&15]
	if head[0]&0x80 == 0 {
		picture += "…"
	}
	switch {
	case head[0]&15 == 8 && length >= 2:
		picture += fmt.Sprint(" ", binary.BigEndian.Uint16(payload))
	case length > 20:
		picture += fmt.Sprintf(" %d bytes", length)
	default:
		picture += fmt.Sprintf(" %s", payload)
	}
	return picture, head[0], payload, nil
}

// duplex is a connection in memory whose directions end apart. A write waits
// for its reader, so nothing is buffered on the way.
type duplex struct {
	net.Conn          // reads
	w        net.Conn // writes
}

func newDuplex() (a, b duplex) {
	r1, w1 := net.Pipe()
	r2, w2 := net.Pipe()
	return duplex{r1, w2}, duplex{r2, w1}
}

func (d duplex) Write(p []byte) (int, error)        { return d.w.Write(p) }
func (d duplex) SetWriteDeadline(t time.Time) error { return d.w.SetWriteDeadline(t) }
func (d duplex) CloseWrite() error                  { return d.w.Close() }
func (d duplex) Close() error                       { return errors.Join(d.w.Close(), d.Conn.Close()) }

func (d duplex) SetDeadline(t time.Time) (err error) {
	return errors.Join(d.SetReadDeadline(t), d.SetWriteDeadline(t))
}

// side is one end of a tunnel, as its peer sees it. Its log holds what the
// peer received, and when.
type side struct {
	scene  *scene
	conn   net.Conn
	client bool
	silent bool        // it does not answer Close, nor an end
	deaf   bool        // it does not read
	said   atomic.Bool // it has sent Close
	done   chan struct{}

	mu  sync.Mutex // guards log
	log []string
}

func (p *side) note(event string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log = append(p.log, p.scene.clock()+" "+event)
}

type scene struct {
	set             *Set
	start           time.Time
	client, backend *side
	options         Options
	metered         [2]int64 // one goroutine writes each
	result          string
	drained         string
	over            chan struct{}
}

func (s *scene) clock() string { return time.Since(s.start).String() }

// send writes frames or, for strings, bytes.
func (p *side) send(parts ...any) {
	for _, part := range parts {
		b, ok := part.([]byte)
		if !ok {
			b = []byte(part.(string))
		}
		if _, err := p.conn.Write(b); err != nil {
			p.note("cannot send")
		}
	}
}

func (p *side) text(s string) []byte { return frame(0x81, s, p.client) }
func (p *side) close(code int) []byte {
	p.said.Store(true)
	return frame(0x88, string([]byte{byte(code >> 8), byte(code)}), p.client)
}
func (p *side) finish() { _ = p.conn.(closer).CloseWrite() }

// listen logs until the end, answers Close as it should be, and closes.
func (p *side) listen() {
	defer close(p.done)
	if p.deaf {
		return
	}
	r := bufio.NewReader(p.conn)
	for {
		var picture string
		var first byte
		var payload []byte
		var err error
		if p.scene.options.WebSocket {
			picture, first, payload, err = readFrame(r)
		} else {
			b := make([]byte, 4096)
			var n int
			n, err = r.Read(b)
			picture = string(b[:n])
		}
		if err != nil {
			if errors.Is(err, io.ErrUnexpectedEOF) {
				p.note("part of a frame")
			}
			p.note("end")
			if !p.silent {
				p.conn.Close()
			}
			return
		}
		p.note(picture)
		if first == 0x88 && !p.silent && p.said.CompareAndSwap(false, true) {
			p.send(frame(0x88, string(payload), p.client))
			if !p.client {
				p.conn.Close() // the server goes first (RFC 6455, 7.1.1)
			}
		}
	}
}

// wait lets the bubble's time pass.
func (s *scene) wait(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// drain begins to drain, for as long as d.
func (s *scene) drain(d time.Duration) {
	synctest.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	go func() {
		defer cancel()
		err := s.set.Drain(ctx)
		s.drained = fmt.Sprintf("drained at %s: %v\n", s.clock(), err)
	}()
	synctest.Wait()
}

// play runs a script in a bubble and pictures what both sides and the caller
// saw. What the script leaves open is closed at its end.
func play(t *testing.T, bare bool, o Options, script func(s *scene)) string {
	t.Helper()
	var picture string
	synctest.Test(t, func(t *testing.T) {
		s := &scene{set: NewSet(), start: time.Now(), options: o, over: make(chan struct{})}
		o.Bytes = func(c, b int64) {
			if c > 0 {
				s.metered[0] += c
			} else {
				s.metered[1] += b
			}
		}
		c, gc := newDuplex()
		gb, b := newDuplex()
		s.client = &side{scene: s, conn: c, client: true, done: make(chan struct{})}
		s.backend = &side{scene: s, conn: b, done: make(chan struct{})}
		go func() {
			defer close(s.over)
			var client, backend net.Conn = gc, gb
			if bare {
				client, backend = struct{ net.Conn }{gc}, struct{ net.Conn }{gb}
			}
			r := s.set.Join(client, backend, o)
			s.result = fmt.Sprintf("%s %d %d at %s", r.Reason, r.FromClient, r.FromBackend, s.clock())
			if r.Err != nil {
				s.result += ": " + r.Err.Error()
			}
			if s.metered != [2]int64{r.FromClient, r.FromBackend} {
				t.Errorf("metered %v of %+v", s.metered, r)
			}
		}()
		script(s)
		<-s.over
		c.Close()
		b.Close()
		<-s.client.done
		<-s.backend.done
		synctest.Wait()
		if n := s.set.Len(); n != 0 {
			t.Errorf("%d tunnels left", n)
		}
		picture = fmt.Sprintf("client: %s\nbackend: %s\n%s%s", strings.Join(s.client.log, ", "), strings.Join(s.backend.log, ", "), s.drained, s.result)
	})
	return picture
}

// begin has both peers listen.
func (s *scene) begin() {
	go s.client.listen()
	go s.backend.listen()
	synctest.Wait()
}

// tcp is a connection over loopback, by both its ends.
func tcp(tb testing.TB) (a, b *net.TCPConn) {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	d, err := ln.Accept()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close(); d.Close() })
	return c.(*net.TCPConn), d.(*net.TCPConn)
}

// pictures reads frames to the end.
func pictures(r io.Reader) string {
	var all []string
	for {
		p, _, _, err := readFrame(r)
		switch {
		case err == nil:
			all = append(all, p)
			continue
		case errors.Is(err, io.EOF):
			all = append(all, "end")
		default:
			all = append(all, err.Error())
		}
		return strings.Join(all, ", ")
	}
}

// until waits for what another goroutine is about to do.
func until(tb testing.TB, done func() bool) {
	tb.Helper()
	for by := time.Now().Add(20 * time.Second); !done(); runtime.Gosched() {
		if time.Now().After(by) {
			tb.Fatal("it did not happen")
		}
	}
}
