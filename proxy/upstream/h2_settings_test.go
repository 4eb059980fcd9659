package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
)

// crumbs is a connection whose first bytes are written a few at a time. Over
// a net.Pipe each piece is a read of its own.
type crumbs struct {
	net.Conn
	size, left int
}

func (c *crumbs) Write(p []byte) (n int, err error) {
	for len(p) > 0 && c.left > 0 && err == nil {
		piece := p[:min(c.size, c.left, len(p))]
		var m int
		m, err = c.Conn.Write(piece)
		n, p, c.left = n+m, p[m:], c.left-m
	}
	if len(p) == 0 || err != nil {
		return n, err
	}
	m, err := c.Conn.Write(p)
	return n + m, err
}

// queue is a listener of connections that are handed to it.
type queue struct {
	conns chan net.Conn
	ended chan struct{}
}

func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.ended:
		return nil, net.ErrClosed
	}
}

func (q *queue) Close() error   { close(q.ended); return nil }
func (q *queue) Addr() net.Addr { return &net.TCPAddr{} }

// The settings of a backend may come in pieces of any size.
func TestH2SettingsInPieces(t *testing.T) {
	for size := 1; size <= 10; size++ {
		q := &queue{make(chan net.Conn), make(chan struct{})}
		server := &http.Server{Protocols: &http.Protocols{}, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "fine")
		})}
		server.Protocols.SetUnencryptedHTTP2(true)
		served := make(chan error, 1)
		go func() { served <- server.Serve(q) }()
		c := client(t, Config{Dial: func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			q.conns <- &crumbs{far, size, 9}
			return near, nil
		}})
		b := version(t, c, nil, gatehouse.Backend{Protocol: gatehouse.HTTP2, Timeouts: brief}, "http://pieces.test")
		if got := outcome(b, get()); got != `200 "fine" attempts=1` {
			t.Errorf("pieces of %d bytes: %s", size, got)
		}
		c.Close()
		_ = server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}
}
