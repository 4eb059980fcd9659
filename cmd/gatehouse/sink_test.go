package main

import (
	"flag"
	"fmt"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/metering/ledger"
	"github.com/gatehouse-gateway/gatehouse/metering/servertest"
)

var sinkAway = flag.Duration("sink-away", time.Second, "how long the sink of TestSinkAway is away")

// relay is a proxy from TCP that can be away.
type relay struct {
	to       string // a Unix socket
	listener net.Listener

	mu    sync.Mutex
	away  bool                  // guarded by mu
	conns map[net.Conn]struct{} // guarded by mu
}

func newRelay(t *testing.T, to string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{to: to, listener: l, conns: map[net.Conn]struct{}{}}
	t.Cleanup(func() { _ = l.Close(); r.leave() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go r.join(c)
		}
	}()
	return r
}

func (r *relay) join(c net.Conn) {
	defer c.Close()
	r.mu.Lock()
	away := r.away
	r.conns[c] = struct{}{}
	r.mu.Unlock()
	if away {
		return
	}
	up, err := net.Dial("unix", r.to)
	if err != nil {
		return
	}
	defer up.Close()
	go func() {
		_, _ = io.Copy(up, c) // either end may go
		_ = up.Close()
	}()
	_, _ = io.Copy(c, up)
}

// leave breaks every connection, in the middle of whatever it does, and takes
// no other.
func (r *relay) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away = true
	for c := range r.conns {
		_ = c.Close()
	}
	clear(r.conns)
}

func (r *relay) back() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away = false
}

// A sink that is away while there is load gets everything when it is back, by
// itself; the ledger is not held up meanwhile, and no request is.
func TestSinkAway(t *testing.T) {
	address := servertest.Postgres(t)
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	socket, err := filepath.Glob(filepath.Join(u.Query().Get("host"), ".s.PGSQL.*[0-9]"))
	if err != nil || len(socket) != 1 {
		t.Fatal(socket, err)
	}
	r := newRelay(t, socket[0])
	u.Host, u.RawQuery = r.listener.Addr().String(), "sslmode=disable"
	c := newCrash(t, fmt.Sprintf("metering: {flush: 50ms, sinks: [{kind: sqlite}, {kind: postgres, name: away, url: %q}]}\n", u))
	of := `{sink="away"}`
	waitFor(t, func() bool { return c.now.metric("gatehouse_metering_sink_cells_total"+of) != 0 })
	r.leave()
	waitFor(t, func() bool { return c.now.metric("gatehouse_metering_sink_failing"+of) == 1 })
	if ready, text, _ := c.now.stands(); !ready || !strings.Contains(text, "\nwarning: usage in sinks: the last write to away failed") {
		t.Errorf("readyz says while the sink fails:\n%s", text)
	}
	was := c.acked()
	<-time.After(*sinkAway)
	if n := c.acked(); n == was {
		t.Error("no request was answered while the sink was away")
	}
	t.Logf("%d requests while the sink was away; it is %d bytes and %d s behind", c.acked()-was,
		c.now.metric("gatehouse_metering_sink_backlog_bytes"+of), c.now.metric("gatehouse_metering_sink_backlog_seconds"+of))
	if c.now.metric(`gatehouse_metering_sink_failing{sink="sqlite"}`) != 0 {
		t.Error("the ledger fails too")
	}
	r.back()
	waitFor(t, func() bool { return c.now.metric("gatehouse_metering_sink_failing"+of) == 0 })
	if ready, text, _ := c.now.stands(); !ready || !strings.Contains(text, "\nok: usage in sinks\n") {
		t.Errorf("readyz says when the sink works again:\n%s", text)
	}
	c.working()
	a := c.end()
	a.check(t)
	l, err := ledger.Open(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	sum := int64(0)
	for cell, err := range l.Cells(t.Context(), time.Now().Add(-24*time.Hour).Truncate(time.Minute), time.Now().Add(time.Hour).Truncate(time.Minute)) {
		if err != nil {
			t.Fatal(err)
		}
		if cell.Meter == metering.MeterBillable {
			sum += cell.Value
		}
	}
	if sum != a.billed {
		t.Errorf("the sink has %d, the ledger %d", sum, a.billed)
	}
	if !strings.Contains(c.now.stderr.String(), "a usage sink works again") {
		t.Errorf("the log does not tell:\n%s", c.now.stderr)
	}
}
