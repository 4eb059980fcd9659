package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/metering/ledger"
)

var (
	crashes = flag.Int("crashes", 15, "kill -9 of TestCrashLoop")
	acks    = flag.Int64("acks", 2000, "acknowledged requests of TestCrashLoop at least")
)

const (
	crashClients = 16
	crashBody    = 32 // bytes
)

// crashDocument has a route for each client, so that what one lost does not
// make up for what another was billed twice.
func crashDocument(backend string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "tenants:\n  - id: a\n    domain: a.test\n    backends: [{id: app, endpoints: [{url: \"http://%s\"}]}]\n    routes:\n", backend)
	for i := range crashClients {
		fmt.Fprintf(&b, "      - {id: c%d, match: {path: /c%d}, auth: none, backend: app}\n", i, i)
	}
	return b.String()
}

// fixedBackend answers each request with the same body.
func fixedBackend(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	answer := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", crashBody, strings.Repeat("x", crashBody))
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r := bufio.NewReader(c)
				for {
					line, err := r.ReadSlice('\n')
					if err != nil {
						return
					}
					if len(line) > 2 {
						continue
					}
					if _, err := c.Write(answer); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// crashClient makes one request after the other, and notes each answer in a
// file of its own before it makes the next.
type crashClient struct {
	name  string
	file  *os.File
	acked atomic.Int64
	cut   atomic.Int64 // requests that were sent, perhaps in part, and not answered
	err   error        // of the file; read when it has ended
}

func newCrashClient(t *testing.T, dir, name string) *crashClient {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, name+".csv"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString("time,tenant,route,meter\n")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return &crashClient{name: name, file: f}
}

func (c *crashClient) run(ctx context.Context, addr string) {
	for ctx.Err() == nil && c.err == nil {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(2 * time.Millisecond):
			}
			continue
		}
		c.connection(ctx, conn)
		_ = conn.Close()
	}
}

func (c *crashClient) connection(ctx context.Context, conn net.Conn) {
	request := []byte("GET /" + c.name + " HTTP/1.1\r\nHost: a.test\r\n\r\n")
	r := bufio.NewReader(conn)
	for ctx.Err() == nil {
		if _, err := conn.Write(request); err != nil {
			c.cut.Add(1)
			return
		}
		last := false
		for {
			line, err := r.ReadSlice('\n')
			if err != nil {
				c.cut.Add(1)
				return
			}
			last = last || bytes.HasPrefix(line, []byte("Connection: close"))
			if len(line) == 2 {
				break
			}
		}
		if _, err := r.Discard(crashBody); err != nil {
			c.cut.Add(1)
			return
		}
		if _, c.err = fmt.Fprintf(c.file, "%s,a,%s,requests_billable\n", time.Now().UTC().Format(time.RFC3339), c.name); c.err != nil {
			return
		}
		c.acked.Add(1)
		if last {
			return
		}
	}
}

// crash is a load on a gateway that ends and starts again at the same address.
type crash struct {
	t       *testing.T
	data    string
	args    []string
	clients []*crashClient
	ended   int64 // processes that have
	running sync.WaitGroup
	stop    context.CancelFunc
	now     *program
}

func newCrash(t *testing.T, config string) *crash {
	t.Helper()
	docs := t.TempDir()
	write(t, filepath.Join(docs, "a.yaml"), crashDocument(fixedBackend(t)))
	c := &crash{t: t, data: t.TempDir()}
	c.args = []string{"--config", settings(t, silent+config), "--tenants", docs, "--data", c.data}
	c.now = start(t, c.args...)
	c.args = append(c.args, "--listen", c.now.data)
	ctx, stop := context.WithCancel(t.Context())
	c.stop = stop
	logs := t.TempDir()
	for i := range crashClients {
		client := newCrashClient(t, logs, fmt.Sprintf("c%d", i))
		c.clients = append(c.clients, client)
		c.running.Go(func() { client.run(ctx, c.now.data) })
	}
	t.Cleanup(func() { stop(); c.running.Wait() })
	return c
}

func (c *crash) acked() (n int64) {
	for _, client := range c.clients {
		n += client.acked.Load()
	}
	return n
}

// working waits for an answer from the process that runs now.
func (c *crash) working() {
	c.t.Helper()
	was := c.acked()
	waitFor(c.t, func() bool { return c.acked() > was })
}

// end stops the clients and the gateway, and returns the account of both.
func (c *crash) end() *account {
	t := c.t
	t.Helper()
	c.stop()
	c.running.Wait()
	c.now.signal(syscall.SIGTERM)
	c.now.exits(exitOK)
	a := &account{}
	book, err := ledger.Open(t.Context(), filepath.Join(c.data, "metering.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer book.Close()
	a.read(t, c, book)
	return a
}

// account is what clients noted beside what is billed.
type account struct {
	acked, billed, cut, interrupted, lost, double int64
	torn                                          int
}

func (a *account) String() string {
	return fmt.Sprintf("acked %d billed %d interrupted %d (of %d cut) lost %d double %d torn %d",
		a.acked, a.billed, a.interrupted, a.cut, a.lost, a.double, a.torn)
}

func (a *account) read(t *testing.T, c *crash, book *ledger.Ledger) {
	t.Helper()
	billed, interrupted := map[gatehouse.RouteID]int64{}, map[gatehouse.RouteID]int64{}
	requests, bytesOut := map[metering.Cell]int64{}, map[metering.Cell]int64{}
	from, to := time.Now().Add(-24*time.Hour).Truncate(time.Minute), time.Now().Add(time.Hour).Truncate(time.Minute)
	for cell, err := range book.Cells(t.Context(), from, to) {
		if err != nil {
			t.Fatal(err)
		}
		id := identity(cell)
		id.Meter = ""
		switch cell.Meter {
		case metering.MeterBillable:
			billed[cell.Series.Route] += cell.Value
			requests[id] += cell.Value
		case metering.MeterInterrupted:
			interrupted[cell.Series.Route] += cell.Value
		case metering.MeterBytesOut:
			bytesOut[id] += cell.Value
		}
	}
	for id, n := range requests {
		if bytesOut[id] != n*crashBody {
			a.torn++
		}
	}
	for _, client := range c.clients {
		if client.err != nil {
			t.Fatal(client.err)
		}
		acked, cut, billed := client.acked.Load(), client.cut.Load(), billed[gatehouse.RouteID(client.name)]
		if n := lineCount(t, client.file.Name()) - 1; n != acked {
			t.Fatalf("%s noted %d of %d", client.name, n, acked)
		}
		a.acked += acked
		a.cut += cut
		a.billed += billed
		a.interrupted += interrupted[gatehouse.RouteID(client.name)]
		a.lost += max(0, acked-billed)
		// One that was still to be accepted is cut too, and was never seen.
		a.double += max(0, billed-acked-min(cut, c.ended))
	}
	kept, err := metering.Read(c.data)
	if err != nil {
		t.Fatal(err)
	}
	if n := kept.Sum(metering.MeterBillable); n != a.billed {
		t.Errorf("the data folder has %d, the ledger %d", n, a.billed)
	}
	if len(kept.Damage) > 0 {
		t.Errorf("damage: %v", kept.Damage)
	}
	if err := book.Check(t.Context(), from, to); err != nil {
		t.Error(err)
	}
}

func lineCount(t *testing.T, name string) (n int64) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return int64(bytes.Count(text, []byte("\n")))
}

func (a *account) check(t *testing.T) {
	t.Helper()
	if a.lost+a.double+int64(a.torn) > 0 || a.interrupted > a.cut || a.acked == 0 {
		t.Error(a)
	}
}

// The promise: kill -9 in a loop under load loses no acknowledged request,
// bills none twice, tears no cell, and lists at most what was in flight.
func TestCrashLoop(t *testing.T) {
	c := newCrash(t, "")
	began, down := time.Now(), time.Duration(0)
	n := 0
	for ; n < *crashes || c.acked() < *acks; n++ {
		c.working()
		<-time.After(20*time.Millisecond + rand.N(180*time.Millisecond))
		c.now.signal(syscall.SIGKILL)
		<-c.now.ended //nolint:errcheck // killed
		c.now.ended <- errors.New("killed")
		c.ended++
		was := time.Now()
		c.now = start(t, c.args...)
		down += time.Since(was)
		if n%100 == 99 {
			t.Logf("%d kills, %d acknowledged", n+1, c.acked())
		}
	}
	c.working()
	took := time.Since(began)
	a := c.end()
	t.Logf("%d kills in %v, %v to start: %s", n, took.Round(time.Second), (down / time.Duration(n)).Round(time.Millisecond), a)
	a.check(t)
	c.reconciled(0)

	// A line that no gateway counted is found.
	if _, err := c.clients[0].file.WriteString(time.Now().UTC().Format(time.RFC3339) + ",a,nowhere,requests_billable\n"); err != nil {
		t.Fatal(err)
	}
	c.reconciled(exitFindings)
}

// reconciled runs the command on the clients' logs. Requests that were cut may
// be billed, so that with them the accounts differ.
func (c *crash) reconciled(want int) {
	t := c.t
	t.Helper()
	var joined bytes.Buffer
	for i, client := range c.clients {
		text, err := os.ReadFile(client.file.Name())
		if err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			_, text, _ = bytes.Cut(text, []byte("\n"))
		}
		joined.Write(text)
	}
	file := filepath.Join(t.TempDir(), "client.csv")
	if err := os.WriteFile(file, joined.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	code := run(t.Context(), []string{
		"reconcile", "--data", c.data, "--meter", "requests_billable", "--step", "hour", "--log", file,
		"--from", time.Now().UTC().Add(-24 * time.Hour).Truncate(time.Hour).Format(time.RFC3339), "--to", time.Now().UTC().Add(time.Hour).Truncate(time.Hour).Format(time.RFC3339),
	}, noEnvironment, strings.NewReader(""), &out, &errs)
	asked := code == want || want == exitOK && code == exitFindings
	if !asked || !strings.Contains(out.String(), "sqlite") {
		t.Errorf("reconcile: %d, want %d\n%s%s", code, want, out.String(), errs.String())
	}
	if want == exitFindings && !strings.Contains(out.String(), "nowhere") {
		t.Error(out.String())
	}
}

// A process that ends in order loses nothing and interrupts nothing.
func TestTermLoop(t *testing.T) {
	c := newCrash(t, "")
	for range 4 {
		c.working()
		c.now.signal(syscall.SIGTERM)
		c.now.exits(exitOK)
		c.now = start(t, c.args...)
	}
	c.working()

	// A second process is refused, and does no harm.
	second := launch(t, c.args[:len(c.args)-2]...)
	if code := second.wait(); code == exitOK || !strings.Contains(second.stderr.String(), "use") {
		t.Errorf("a second process: %d %s", code, second.stderr)
	}
	c.working()
	a := c.end()
	t.Log(a)
	a.check(t)
	if a.billed != a.acked || a.interrupted != 0 {
		t.Errorf("%d billed, %d acknowledged, %d interrupted", a.billed, a.acked, a.interrupted)
	}
}
