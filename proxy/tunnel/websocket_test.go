package tunnel

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// tap keeps what passes through a connection.
type tap struct {
	net.Conn
	in, out *tape
}

type tape struct {
	mu sync.Mutex // guards b, and the order of what is in it
	b  bytes.Buffer
}

func (t *tape) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}

func newTap(c net.Conn) tap { return tap{c, new(tape), new(tape)} }

func (t tap) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	t.in.mu.Lock()
	defer t.in.mu.Unlock()
	t.in.b.Write(p[:n])
	return n, err
}

func (t tap) Write(p []byte) (int, error) {
	t.out.mu.Lock()
	defer t.out.mu.Unlock()
	n, err := t.Conn.Write(p)
	t.out.b.Write(p[:n])
	return n, err
}

type tapListener struct {
	net.Listener
	taps chan tap
}

func (l tapListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	t := newTap(c)
	l.taps <- t
	return t, nil
}

// echo is a WebSocket server that sends each message back, in the fragments
// that it reads it by; "close 4002" has it close. It tells how it ended.
type echo struct {
	*httptest.Server
	taps  chan tap
	ended chan string
}

func newEcho(t *testing.T, serve func(ctx context.Context, c *websocket.Conn) error) *echo {
	e := &echo{taps: make(chan tap, 16), ended: make(chan string, 1)}
	e.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionContextTakeover})
		if err != nil {
			t.Error(err)
			return
		}
		c.SetReadLimit(-1)
		e.ended <- fmt.Sprint("server: ", serve(r.Context(), c))
		_ = c.CloseNow() // it has ended
	}))
	e.Listener = tapListener{e.Listener, e.taps}
	e.Start()
	t.Cleanup(e.Close)
	return e
}

func echoAll(ctx context.Context, c *websocket.Conn) error {
	for {
		kind, r, err := c.Reader(ctx)
		if err != nil {
			return err
		}
		p := make([]byte, 100_000)
		n, _ := io.ReadFull(r, p)
		if strings.HasPrefix(string(p[:n]), "close ") {
			var code int
			_, _ = fmt.Sscan(string(p[6:n]), &code)
			return c.Close(websocket.StatusCode(code), "as you wish")
		}
		w, err := c.Writer(ctx, kind)
		if err != nil {
			return err
		}
		if _, err := io.Copy(w, io.MultiReader(bytes.NewReader(p[:n]), r)); err != nil {
			return err
		}
		if err := w.Close(); err != nil {
			return err
		}
	}
}

// gate is a gateway that joins what asks for an upgrade, and no more.
type gate struct {
	set     *Set
	ln      net.Listener
	results chan Result
}

func newGate(t testing.TB, backend string, o Options) *gate {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{set: NewSet(), ln: ln, results: make(chan Result, 16)}
	var all sync.WaitGroup
	t.Cleanup(func() {
		ln.Close()
		all.Wait()
	})
	all.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				b, err := net.Dial("tcp", backend)
				if err != nil {
					t.Error(err)
					return
				}
				o := o
				o.ClientEarly = passHead(t, client, b)
				o.BackendEarly = passHead(t, b, client)
				g.results <- g.set.Join(client, b, o)
			})
		}
	})
	return g
}

// passHead passes one HTTP head, and returns what was read behind it.
func passHead(t testing.TB, from, to net.Conn) []byte {
	r := bufio.NewReader(from)
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			t.Error(err)
			return nil
		}
		if _, err := to.Write(line); err != nil {
			t.Error(err)
			return nil
		}
		if len(line) == 2 {
			rest, _ := r.Peek(r.Buffered())
			return rest
		}
	}
}

// dial returns a WebSocket client and its tap.
func dial(t *testing.T, ctx context.Context, addr string, compress bool) (*websocket.Conn, tap) {
	var tapped tap
	transport := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		tapped = newTap(c)
		return tapped, nil
	}}
	t.Cleanup(transport.CloseIdleConnections)
	mode := websocket.CompressionDisabled
	if compress {
		mode = websocket.CompressionContextTakeover
	}
	c, _, err := websocket.Dial(ctx, "ws://"+addr, &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}, CompressionMode: mode})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.CloseNow() })
	c.SetReadLimit(-1)
	return c, tapped
}

// What a client and a server of another make say to each other through a
// tunnel is what they say without, byte for byte.
func TestWebSocket(t *testing.T) {
	message := func(kind websocket.MessageType, payloads ...string) func(context.Context, *websocket.Conn) string {
		return func(ctx context.Context, c *websocket.Conn) string {
			w, err := c.Writer(ctx, kind)
			if err != nil {
				return err.Error()
			}
			sent := crc32.NewIEEE()
			for _, p := range payloads {
				_, _ = io.WriteString(io.MultiWriter(w, sent), p)
			}
			if err := w.Close(); err != nil {
				return err.Error()
			}
			back, p, err := c.Read(ctx)
			return fmt.Sprint(back, len(p), crc32.ChecksumIEEE(p) == sent.Sum32(), err)
		}
	}
	all := map[string]func(context.Context, *websocket.Conn) string{
		"text":      message(websocket.MessageText, "hello"),
		"empty":     message(websocket.MessageText, ""),
		"binary":    message(websocket.MessageBinary, "\x00\x01\xff"),
		"126":       message(websocket.MessageBinary, strings.Repeat("a", 126)),
		"64 KiB":    message(websocket.MessageBinary, strings.Repeat("a", 1<<16)),
		"1 MiB":     message(websocket.MessageBinary, strings.Repeat("0123456789abcdef", 1<<16)),
		"fragments": message(websocket.MessageText, "one", "two", strings.Repeat("three", 30_000), "four"),
		"ping": func(ctx context.Context, c *websocket.Conn) string {
			ctx = c.CloseRead(ctx)
			return fmt.Sprint(c.Ping(ctx), c.Ping(ctx))
		},
		"the client closes": func(_ context.Context, c *websocket.Conn) string {
			return fmt.Sprint(c.Close(4001, "enough"))
		},
		"the server closes": func(ctx context.Context, c *websocket.Conn) string {
			_ = c.Write(ctx, websocket.MessageText, []byte("close 4002"))
			_, _, err := c.Read(ctx)
			return fmt.Sprint(err)
		},
	}
	for name, talk := range all {
		for _, compress := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/compress=%v", name, compress), func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				e := newEcho(t, echoAll)
				g := newGate(t, e.Listener.Addr().String(), Options{WebSocket: true, Idle: time.Minute})

				seen := func(addr string) (string, tap, tap) {
					c, ours := dial(t, ctx, addr, compress)
					said := talk(ctx, c)
					if !strings.Contains(name, "closes") {
						said += fmt.Sprint("; ", c.Close(websocket.StatusNormalClosure, "done"))
					}
					return said + "; " + <-e.ended, ours, <-e.taps
				}
				direct, _, _ := seen(e.Listener.Addr().String())
				through, ours, theirs := seen(g.ln.Addr().String())
				if through != direct {
					t.Errorf("through %s\ndirect  %s", through, direct)
				}
				r := <-g.results
				in, out := ours.in.String(), ours.out.String()
				theirIn, theirOut := theirs.in.String(), theirs.out.String()
				if in != theirOut || out != theirIn {
					t.Errorf("client sent %d, server got %d; server sent %d, client got %d bytes", len(out), len(theirIn), len(theirOut), len(in))
				}
				_, sent, _ := strings.Cut(out, "\r\n\r\n")
				_, got, _ := strings.Cut(in, "\r\n\r\n")
				if r.Err != nil || r.FromClient != int64(len(sent)) || r.FromBackend != int64(len(got)) {
					t.Errorf("%+v, sent %d, got %d", r, len(sent), len(got))
				}
			})
		}
	}
}

// A message that is under way when the gateway drains arrives whole; then
// both sides hear that the gateway goes away.
func TestDrainDuringMessage(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	const size = 16 << 20 // more than sockets hold
	begun, on := make(chan struct{}), make(chan struct{})
	e := newEcho(t, func(ctx context.Context, c *websocket.Conn) error {
		_, r, err := c.Reader(ctx)
		if err != nil {
			return err
		}
		first := make([]byte, 1000)
		if _, err := io.ReadFull(r, first); err != nil {
			return err
		}
		close(begun)
		<-on
		sum := crc32.NewIEEE()
		sum.Write(first)
		n, err := io.Copy(sum, r)
		if err != nil {
			return err
		}
		_, _, err = c.Read(ctx)
		return fmt.Errorf("%d %x; then %d", n+1000, sum.Sum32(), websocket.CloseStatus(err))
	})
	g := newGate(t, e.Listener.Addr().String(), Options{WebSocket: true, Idle: time.Minute})
	c, _ := dial(t, ctx, g.ln.Addr().String(), false)
	payload := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	wrote := make(chan error, 1)
	go func() { wrote <- c.Write(ctx, websocket.MessageBinary, payload) }()
	heard := make(chan string, 1)
	go func() {
		_, _, err := c.Read(ctx)
		heard <- fmt.Sprint("client: ", int(websocket.CloseStatus(err)))
	}()
	<-begun
	drained := make(chan error, 1)
	go func() { drained <- g.set.Drain(ctx) }()
	until(t, g.isDraining)
	close(on)
	got := fmt.Sprint(<-wrote, "; ", <-heard, "; ", <-e.ended, "; ", <-drained)
	want := fmt.Sprintf("<nil>; client: 1001; server: %d %x; then 1001; <nil>", size, crc32.ChecksumIEEE(payload))
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if r := <-g.results; r.Reason != Drained || r.Err != nil || g.set.Len() != 0 {
		t.Errorf("%+v, %d left", r, g.set.Len())
	}
}

func (g *gate) isDraining() bool {
	g.set.mu.Lock()
	defer g.set.mu.Unlock()
	return g.set.draining
}

func TestDrainManyWebSockets(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	e := newEcho(t, echoAll)
	g := newGate(t, e.Listener.Addr().String(), Options{WebSocket: true, Idle: time.Minute})
	var got sync.WaitGroup
	for range 8 {
		c, _ := dial(t, ctx, g.ln.Addr().String(), false)
		got.Go(func() {
			if _, _, err := c.Read(ctx); websocket.CloseStatus(err) != websocket.StatusGoingAway {
				t.Error(err)
			}
		})
	}
	until(t, func() bool { return g.set.Len() == 8 })
	if err := g.set.Drain(ctx); err != nil {
		t.Error(err)
	}
	got.Wait()
	for range 8 {
		if s := <-e.ended; !strings.Contains(s, "StatusGoingAway") {
			t.Error(s)
		}
	}
}
