package http2

import (
	"encoding/binary"
	"net"
	"net/http"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2/hpack"
)

// ping is a client that sends the same request over and over, and waits for
// the end of each answer. It costs nothing itself.
type ping struct {
	nc    net.Conn
	id    uint32
	block []byte
	body  []byte
	out   []byte
	in    []byte
}

func newPing(tb testing.TB, handle func(*Stream), body []byte) *ping {
	tb.Helper()
	cfg := &Config{HeaderBytes: 16 << 10, Streams: 100, Header: 10 * time.Second, Idle: time.Minute}
	return newPingWith(tb, cfg, handle, body)
}

func newPingWith(tb testing.TB, cfg *Config, handle func(*Stream), body []byte) *ping {
	tb.Helper()
	return pingTo(tb, body, func(nc net.Conn) {
		c := NewConn(nc, cfg, handle)
		_ = c.Serve()
		_ = c.Close()
	})
}

func pingTo(tb testing.TB, body []byte, serve func(nc net.Conn)) *ping {
	tb.Helper()
	near, far := net.Pipe()
	p := &ping{nc: near, id: 1, body: body, in: make([]byte, 64<<10)}
	served := make(chan struct{})
	go func() {
		defer close(served)
		serve(far)
	}()
	enc := hpack.NewEncoder(writerFunc(func(b []byte) { p.block = append(p.block, b...) }))
	fields := [][2]string{
		{":method", "GET"},
		{":scheme", "https"},
		{":authority", "api.example.com"},
		{":path", "/v1/things"},
		{"user-agent", "test/1.0"},
		{"accept", "application/json"},
		{"x-name", "value"},
	}
	block := func() {
		p.block = p.block[:0]
		for _, f := range fields {
			if err := enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
				tb.Fatal(err)
			}
		}
	}
	block()
	greeting := []byte(preface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x04\x01\x00\x00\x00\x00")
	if _, err := near.Write(appendWindowUpdate(greeting, 0, maxWindow-firstWindow)); err != nil {
		tb.Fatal(err)
	}
	p.ask(tb)
	block() // all of it is in the tables now
	for range 100 {
		p.ask(tb)
	}
	tb.Cleanup(func() {
		_ = near.Close()
		<-served
	})
	return p
}

// ask makes a request, and returns at the END_STREAM of its answer.
func (p *ping) ask(tb testing.TB) {
	flags := uint8(flagEndHeaders)
	if len(p.body) == 0 {
		flags |= flagEndStream
	}
	b := append(appendFrame(p.out[:0], len(p.block), kindHeaders, flags, p.id), p.block...)
	if len(p.body) > 0 {
		b = append(appendFrame(b, len(p.body), kindData, flagEndStream, p.id), p.body...)
	}
	p.out = b
	if _, err := p.nc.Write(b); err != nil {
		tb.Fatal(err)
	}
	for got := 0; ; {
		n, err := p.nc.Read(p.in[got:])
		if err != nil {
			tb.Fatal(err)
		}
		got += n
		at := 0
		for got-at >= frameHeader {
			size := frameHeader + int(binary.BigEndian.Uint32(p.in[at:])>>8)
			if got-at < size {
				break
			}
			if k := kind(p.in[at+3]); k <= kindHeaders && p.in[at+4]&flagEndStream != 0 && binary.BigEndian.Uint32(p.in[at+5:]) == p.id {
				p.id += 2
				return
			}
			at += size
		}
		got = copy(p.in, p.in[at:got])
	}
}

var (
	costName, costValue = []byte("Content-Type"), []byte("application/json")
	costBody            = make([]byte, 200)
)

func small(s *Stream) {
	s.Begin(200)
	s.Field(costName, costValue)
	s.Date()
	s.Length(int64(len(costBody)))
	_ = s.Whole(costBody)
}

func readAll(s *Stream) {
	var p [512]byte
	for {
		if _, err := s.Read(p[:]); err != nil {
			break
		}
	}
	small(s)
}

// TestCost holds a request whose fields are in the tables to no allocation.
func TestCost(t *testing.T) {
	f := func(name string, handle func(*Stream), body []byte, most float64) {
		if raceEnabled {
			most = 100 // the race detector has pools forget
		}
		p := newPing(t, handle, body)
		if got := testing.AllocsPerRun(500, func() { p.ask(t) }); got > most {
			t.Errorf("%s: %v allocations, at most %v", name, got, most)
		}
	}
	f("GET", small, nil, 0)
	f("POST", readAll, make([]byte, 1000), 1)
}

func BenchmarkGet(b *testing.B) {
	p := newPing(b, small, nil)
	b.ReportAllocs()
	for b.Loop() {
		p.ask(b)
	}
}

func BenchmarkPost(b *testing.B) {
	p := newPing(b, readAll, make([]byte, 1000))
	b.ReportAllocs()
	for b.Loop() {
		p.ask(b)
	}
}

// BenchmarkNetHTTP is the same request served by net/http's HTTP/2.
func BenchmarkNetHTTP(b *testing.B) {
	p := pingTo(b, nil, func(nc net.Conn) {
		l := &oneConn{nc: make(chan net.Conn, 1)}
		l.nc <- nc
		ended := make(chan struct{})
		srv := &http.Server{
			Protocols: new(http.Protocols),
			Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				_, _ = w.Write(costBody)
			}),
			ConnState: func(_ net.Conn, s http.ConnState) {
				if s == http.StateClosed {
					close(ended)
					close(l.nc)
				}
			},
		}
		srv.Protocols.SetUnencryptedHTTP2(true)
		_ = srv.Serve(l)
		<-ended
	})
	b.ReportAllocs()
	for b.Loop() {
		p.ask(b)
	}
}

// oneConn is a listener with one connection.
type oneConn struct{ nc chan net.Conn }

func (l *oneConn) Accept() (net.Conn, error) {
	if nc, ok := <-l.nc; ok {
		return nc, nil
	}
	return nil, net.ErrClosed
}
func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }

func BenchmarkEncode(b *testing.B) {
	e := encoder{limit: defaultTableSize}
	out := make([]byte, 0, 1024)
	names := [][]byte{[]byte("Content-Type"), []byte("Server"), []byte("Vary"), []byte("X-Frame-Options"), []byte("Via")}
	b.ReportAllocs()
	for b.Loop() {
		out = e.status(e.begin(out[:0]), 200)
		for _, n := range names {
			out = e.field(out, n, costValue)
		}
	}
}

// TestIdleCost holds a connection on which nothing happens, with the client of
// this test, to the memory of two stacks and a little more.
func TestIdleCost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const conns = 200
		cfg := &Config{HeaderBytes: 16 << 10, Streams: 100, Header: 10 * time.Second, Idle: time.Minute}
		before := heap()
		var pings []*ping
		for range conns {
			p := newPingWith(t, cfg, small, nil)
			p.in, p.out = nil, nil
			pings = append(pings, p)
		}
		<-time.After(2 * time.Second)
		synctest.Wait()
		got := (heap() - before) / conns
		runtime.KeepAlive(pings)
		t.Logf("%d bytes a connection", got)
		const most = 24 << 10
		if got > most && !raceEnabled {
			t.Errorf("%d bytes a connection, at most %d", got, most)
		}
	})
}

// heap is the memory in use, with stacks.
func heap() uint64 {
	for range 4 { // pools forget in steps
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}
