package upstream

import (
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// A request whose goroutine was held up between getting its connection and
// writing is made all the same: the deadlines that passed meanwhile are moved.
func TestLateTurn(t *testing.T) {
	b := live(t, gatehouse.Backend{}, backend(t, func(_ int, p *peer) {
		for p.request() != "" {
			p.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	}))
	want(t, outcome(b, get()), `200 "ok" attempts=1`)
	var resp Response
	req := get()
	req.Gone = func() bool { return false }
	c, failed := b.connection(b.members[0].endpoint, false, &resp)
	if failed != nil {
		t.Fatal(failed)
	}
	c.endpoint.inFlight.Add(1)
	c.open()
	c.req = req
	b.load.live.Add(1)
	resp.reset(b)
	resp.conn = c
	c.taken -= poll + time.Second
	if !c.takesTurns() {
		t.Fatal("the connection takes no turns")
	}
	if f := b.exchange(c, req, req.Head, false, &resp); f.err != nil {
		t.Fatal(f.err)
	}
	if resp.Status != 200 {
		t.Errorf("status %d", resp.Status)
	}
	resp.Release()
}

// A request is larger than what the socket takes at once.
func TestLargeTurn(t *testing.T) {
	pad := strings.Repeat("x", 32<<20)
	b := live(t, gatehouse.Backend{}, backend(t, func(_ int, p *peer) {
		if got := p.request(); strings.Contains(got, pad) {
			p.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	}))
	req := get()
	req.Head = []byte("GET / HTTP/1.1\r\nHost: x\r\nX-Pad: " + pad + "\r\n\r\n")
	want(t, outcome(b, req), `200 "ok" attempts=1`)
}
