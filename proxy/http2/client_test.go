package http2

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func config() *Config {
	return &Config{HeaderBytes: 4 << 10, Streams: 10, Header: 10 * time.Second, Idle: time.Minute}
}

// client is the other side of a connection in memory. It writes the frames
// that it is told to, and notes those that come, as text.
type client struct {
	t     *testing.T
	conn  *Conn
	nc    net.Conn
	fr    *h2.Framer
	enc   *hpack.Encoder
	block bytes.Buffer

	mu   sync.Mutex // guards log
	log  strings.Builder
	over chan error // what Serve returned
}

// connect gives a connection to f in a bubble, up to the client's preface, and
// ends it.
func connect(t *testing.T, cfg *Config, handle func(*Stream), f func(c *client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		c := &client{t: t, nc: near, over: make(chan error, 1), conn: NewConn(far, cfg, handle)}
		c.fr = h2.NewFramer(near, near)
		c.fr.AllowIllegalWrites, c.fr.AllowIllegalReads = true, true
		c.enc = hpack.NewEncoder(&c.block)
		go func() {
			c.over <- c.conn.Serve()
			_ = c.conn.Close()
		}()
		read := make(chan struct{})
		go func() {
			defer close(read)
			c.read()
		}()
		f(c)
		_ = near.Close()
		<-read
		synctest.Wait()
		c.settled(cfg)
	})
}

// settled looks for what a connection that has ended still counts.
func (c *client) settled(cfg *Config) {
	c.t.Helper()
	s := c.conn
	if s.running != 0 || s.open != 0 || len(s.streams) != 0 || len(s.heads)+len(s.queue)+s.turns != 0 {
		c.t.Errorf("%d handlers, %d streams, %d known, %d waiting", s.running, s.open, len(s.streams), len(s.heads)+len(s.queue)+s.turns)
	}
	if _, faulty := errors.AsType[*Error](s.broken); s.broken != nil && !faulty && s.credit+s.used != cfg.connWindow() {
		c.t.Errorf("%d bytes of the connection's window are lost", cfg.connWindow()-s.credit-s.used)
	}
}

// greeted is connect, and the settings of both sides are in force.
func greeted(t *testing.T, cfg *Config, handle func(*Stream), f func(c *client)) {
	t.Helper()
	connect(t, cfg, handle, func(c *client) {
		c.greet()
		f(c)
	})
}

func (c *client) greet(settings ...h2.Setting) {
	_, err := io.WriteString(c.nc, preface)
	c.check(err)
	c.check(c.fr.WriteSettings(settings...))
	c.check(c.fr.WriteSettingsAck())
	c.said()
}

func (c *client) check(err error) {
	c.t.Helper()
	if err != nil && !errors.Is(err, io.ErrClosedPipe) { // what the server says shows in the log
		c.t.Error(err)
	}
}

func (c *client) read() {
	dec := hpack.NewDecoder(4096, nil)
	for {
		f, err := c.fr.ReadFrame()
		if err != nil {
			c.note("closed")
			return
		}
		switch f := f.(type) {
		case *h2.SettingsFrame:
			if f.IsAck() {
				c.note("SETTINGS ack")
				continue
			}
			line := "SETTINGS"
			for i := range f.NumSettings() {
				s := f.Setting(i)
				line += fmt.Sprintf(" %d=%d", s.ID, s.Val)
			}
			c.note("%s", line)
		case *h2.HeadersFrame:
			block := bytes.Clone(f.HeaderBlockFragment())
			for end := f.HeadersEnded(); !end; {
				more, err := c.fr.ReadFrame()
				k, ok := more.(*h2.ContinuationFrame)
				if err != nil || !ok {
					c.note("broken header block")
					return
				}
				block = append(block, k.HeaderBlockFragment()...)
				end = k.HeadersEnded()
			}
			fields, err := dec.DecodeFull(block)
			line := fmt.Sprintf("HEADERS %d", f.StreamID)
			for _, h := range fields {
				value := h.Value
				if len(value) > 100 {
					value = fmt.Sprintf("(%d bytes)", len(value))
				}
				line += fmt.Sprintf(" %s=%s", h.Name, value)
				if h.Sensitive {
					line += "(secret)"
				}
			}
			if err != nil {
				line += " " + err.Error()
			}
			c.note("%s%s", line, ended(f.StreamEnded()))
		case *h2.DataFrame:
			data := fmt.Sprintf("%q", f.Data())
			if len(data) > 200 {
				data = fmt.Sprintf("(%d bytes)", len(f.Data()))
			}
			c.note("DATA %d %s%s", f.StreamID, data, ended(f.StreamEnded()))
		case *h2.RSTStreamFrame:
			c.note("RST_STREAM %d %v", f.StreamID, f.ErrCode)
		case *h2.GoAwayFrame:
			c.note("GOAWAY %d %v %s", f.LastStreamID, f.ErrCode, f.DebugData())
		case *h2.PingFrame:
			c.note("PING %s%s", f.Data, map[bool]string{true: " ack"}[f.IsAck()])
		case *h2.WindowUpdateFrame:
			c.note("WINDOW_UPDATE %d %d", f.StreamID, f.Increment)
		default:
			c.note("%v", f)
		}
	}
}

func ended(end bool) string {
	if end {
		return " END"
	}
	return ""
}

func (c *client) note(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprintf(&c.log, format+"\n", args...)
}

// said waits until nothing happens any more, and returns what the server has
// sent since it was last asked.
func (c *client) said() string {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.log.Reset()
	return c.log.String()
}

// want compares what the server has said, and what Serve returned if it did.
func (c *client) want(want string) {
	c.t.Helper()
	if got := c.said(); strings.TrimSpace(got) != strings.TrimSpace(want) {
		c.t.Errorf("got\n%swant\n%s", got, want)
	}
}

func (c *client) encode(fields ...string) []byte {
	c.block.Reset()
	for _, f := range fields {
		at := strings.Index(f[1:], ": ") + 1
		c.check(c.enc.WriteField(hpack.HeaderField{Name: f[:at], Value: f[at+2:]}))
	}
	return c.block.Bytes()
}

func (c *client) headers(id uint32, end bool, fields ...string) {
	c.check(c.fr.WriteHeaders(h2.HeadersFrameParam{StreamID: id, BlockFragment: c.encode(fields...), EndStream: end, EndHeaders: true}))
}

var request = []string{":method: GET", ":scheme: https", ":authority: h", ":path: /"}

func (c *client) get(id uint32)  { c.headers(id, true, request...) }
func (c *client) post(id uint32) { c.headers(id, false, request...) }

func (c *client) data(id uint32, end bool, p string) { c.check(c.fr.WriteData(id, end, []byte(p))) }

func (c *client) raw(k kind, flags uint8, id uint32, payload string) {
	c.check(c.fr.WriteRawFrame(h2.FrameType(k), h2.Flags(flags), id, []byte(payload)))
}

// pass lets time go by, in which the client lives and asks for nothing.
func (c *client) pass(d time.Duration) {
	for ; d > 0; d -= time.Second {
		<-time.After(min(d, time.Second))
		c.check(c.fr.WritePing(true, [8]byte{}))
	}
}

// echo answers with what it was asked.
func echo(s *Stream) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s %s", s.Method, s.Scheme, s.Authority, s.Path)
	for _, f := range s.Fields {
		fmt.Fprintf(&b, " %s=%s", f.Name, f.Value)
	}
	if !s.Ended {
		body, err := io.ReadAll(s)
		if err != nil {
			return
		}
		fmt.Fprintf(&b, " body=%s", body)
	}
	for _, f := range s.Trailer() {
		fmt.Fprintf(&b, " trailer %s=%s", f.Name, f.Value)
	}
	if s.TooLarge {
		b.Reset()
		b.WriteString("too large")
	}
	s.Begin(200)
	_ = s.Whole([]byte(b.String()))
}

// ok answers without a word.
func ok(s *Stream) {
	s.Begin(204)
	_ = s.End()
}

// wait holds every stream until its body has ended.
func wait(s *Stream) {
	if _, err := io.Copy(io.Discard, s); err == nil {
		ok(s)
	}
}
