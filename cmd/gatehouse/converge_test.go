package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/client"
	"github.com/gatehouse-gateway/gatehouse/metering/servertest"
)

var (
	writes = flag.Int("writes", 200, "acknowledged writes in TestControlKilled and TestTwoControlPlanes, at least, on each store")
	kills  = flag.Int("kills", 5, "times that a control plane is killed meanwhile, at least")
)

// ack is a write that was answered: what was written, and as which revision.
type ack struct {
	name     string
	revision uint64
}

// writer writes to one tenant, over and over. A write that is not answered is
// sent again under its key until it is, to whichever control plane answers.
type writer struct {
	t       *testing.T
	id      int
	tenant  string
	planes  []*client.Client
	ok      *atomic.Int64 // of all writers
	answers []ack
}

// between is the time between two attempts to reach a control plane.
const between = 5 * time.Millisecond

// send makes a call until it is answered, with success or a refusal.
func (w *writer) send(call client.Call) (*client.Answer, error) {
	for turn := w.id; ; turn++ {
		answer, err := w.planes[turn%len(w.planes)].Do(w.t.Context(), call)
		if gatehouse.CodeOf(err) != gatehouse.CodeUnavailable {
			return answer, err
		}
		if w.t.Failed() || pause(w.t.Context(), between) != nil {
			return nil, err
		}
	}
}

// write gives the tenant names that nothing else has, until stop is closed.
func (w *writer) write(stop <-chan struct{}) {
	for n := 1; ; n++ {
		select {
		case <-stop:
			return
		default:
		}
		name := fmt.Sprintf("%s-%d", w.tenant, n)
		answer, err := w.send(client.Call{Operation: client.PatchTenant, Path: []string{w.tenant}, Body: map[string]any{"name": name}, Idempotency: name})
		if err != nil {
			w.t.Errorf("write %s: %v", name, err)
			return
		}
		revision, err := strconv.ParseUint(strings.Trim(answer.ETag, `"`), 10, 64)
		if err != nil {
			w.t.Errorf("write %s: ETag %s", name, answer.ETag)
			return
		}
		w.answers = append(w.answers, ack{name, revision})
		w.ok.Add(1)
	}
}

// patient is a client that leaves it to its user to try again.
func patient(t *testing.T, address, token string) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{Server: "http://" + address, Token: token, Retries: -1})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func ownerToken(t *testing.T, data string) string {
	t.Helper()
	token, err := os.ReadFile(filepath.Join(data, bootstrapFile))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(token))
}

// killedAtStart runs a process and kills it at whatever it does first.
func killedAtStart(t *testing.T, args ...string) {
	t.Helper()
	c := exec.Command(os.Args[0], append([]string{"run"}, args...)...)
	c.Env = append(os.Environ(), "GATEHOUSE_TEST_MAIN=1")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(rand.N(300*time.Millisecond), func() { _ = c.Process.Kill() }) // it runs until then
	defer kill.Stop()
	if err := c.Wait(); err == nil {
		t.Error("it ended by itself")
	}
}

// mayhem kills a process at random moments while it is written to, and starts
// it again by args, until there have been enough writes and kills.
func mayhem(t *testing.T, p *program, ok *atomic.Int64, each func(), args ...string) (_ *program, killed int) {
	t.Helper()
	for killed < *kills || ok.Load() < int64(*writes) {
		more := ok.Load() + 1 + rand.Int64N(int64(2*(*writes)/(*kills)))
		waitFor(t, func() bool { return ok.Load() >= more || t.Failed() })
		<-time.After(rand.N(20 * time.Millisecond)) // not always just after an answer
		p.signal(syscall.SIGKILL)
		p.exits(-1)
		if killed++; killed%4 == 3 {
			killedAtStart(t, args...)
			killed++
		}
		p = start(t, args...)
		each()
		if t.Failed() {
			t.FailNow()
		}
	}
	return p, killed
}

// stores are the databases that a control plane keeps its journal in, as a
// section of the configuration.
var stores = map[string]func(*testing.T) string{
	"SQLite":     func(*testing.T) string { return "" },
	"PostgreSQL": func(t *testing.T) string { return fmt.Sprintf("store: {url: %q}\n", servertest.Postgres(t)) },
}

// patched counts the events of the journal that gave a tenant a name, by the
// name, and says which revision each is.
func patched(t *testing.T, c *client.Client) (times map[string]int, at map[string]uint64) {
	t.Helper()
	body, err := c.Open(t.Context(), client.Call{Operation: client.ExportAudit})
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	times, at = map[string]int{}, map[string]uint64{}
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e struct {
			Seq  uint64
			Kind string
			Body struct {
				Edits []struct {
					Kind  string
					After struct{ Document struct{ Name string } }
				}
			}
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		if e.Kind != "tenant.patch" {
			continue
		}
		for _, d := range e.Body.Edits {
			if d.Kind == "tenant" {
				times[d.After.Document.Name]++
				at[d.After.Document.Name] = e.Seq
			}
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return times, at
}

// converged waits until every data plane stands where the journal ends.
func converged(t *testing.T, c *client.Client, edges ...*program) string {
	t.Helper()
	head := verified(t, c)
	for _, e := range edges {
		waitFor(t, func() bool { _, _, at := e.stands(); return at == head })
	}
	return head
}

// The law of durability: the whole control plane is killed at random, again
// and again, while clients write over HTTP. No write that was answered is
// lost, none is made twice though clients send it again, the chain verifies,
// two data planes serve all the while, and come to the same revision and hash.
//
//	go test ./cmd/gatehouse -run TestControlKilled -v -args -writes 10000 -kills 100
func TestControlKilled(t *testing.T) {
	for name, section := range stores {
		t.Run(name, func(t *testing.T) {
			backend, data := newBackend(t, "app", nil), t.TempDir()
			args := []string{"--config", settings(t, silent+section(t)), "--data", data, "--roles", "control", "--control", "127.0.0.1:0"}
			control := start(t, args...)
			args[len(args)-1] = control.control // where it comes back
			token := ownerToken(t, data)
			owner := control.owner(data)
			edges := []*program{
				start(t, "--config", edgeConfig(t, owner, "edge-1"), "--data", t.TempDir()),
				start(t, "--config", edgeConfig(t, owner, "edge-2"), "--data", t.TempDir()),
			}
			must(t, owner, client.Call{Operation: client.CreateTenant, Body: body("busy", backend)}, nil)
			stop := make(chan struct{})
			var loads []*load
			for _, e := range edges {
				live(t, e.data, "busy.test")
				loads = append(loads, startLoad(e.data, "busy.test", "app", 1, stop))
			}
			var ok atomic.Int64
			var running sync.WaitGroup
			halt := sync.OnceFunc(func() { close(stop); running.Wait() })
			defer halt()
			writers := make([]*writer, 8)
			for i := range writers {
				w := &writer{t: t, id: i, tenant: fmt.Sprintf("w%d", i), planes: []*client.Client{patient(t, control.control, token)}, ok: &ok}
				writers[i] = w
				must(t, owner, client.Call{Operation: client.CreateTenant, Body: map[string]any{"id": w.tenant, "domain": w.tenant + ".test"}}, nil)
				running.Go(func() { w.write(stop) })
			}
			control, killed := mayhem(t, control, &ok, func() { verified(t, owner) }, args...)
			halt()
			for _, l := range loads {
				l.check(t, 1)
			}
			times, at := patched(t, owner)
			acked, present, twice := 0, 0, 0
			for _, w := range writers {
				for _, a := range w.answers {
					acked++
					if at[a.name] == a.revision {
						present++
					}
				}
				var now struct{ Name string }
				must(t, owner, client.Call{Operation: client.GetTenant, Path: []string{w.tenant}}, &now)
				if last := w.answers[len(w.answers)-1].name; now.Name != last {
					t.Errorf("%s: the last write was %s, and %s is there", w.tenant, last, now.Name)
				}
			}
			for _, n := range times {
				twice += n - 1
			}
			head := converged(t, owner, edges...)
			t.Logf("%s: %d acked, %d present, %d lost, %d twice, %d never acked, %d kills, both data planes at revision and hash %s",
				name, acked, present, acked-present, twice, len(times)-acked, killed, head)
			if present != acked || twice > 0 || len(times) != acked {
				t.Error("writes were lost, or made twice")
			}
			control.signal(syscall.SIGTERM)
			control.exits(exitOK)
		})
	}
}

// Two control planes on one PostgreSQL: clients of both count a tenant up, each
// by the revision that it read; one of the two is killed again and again, and
// its clients go on at the other. The count is that of the answers: no update
// is lost. What was read before another's change is refused with 412, and a
// data plane of either comes to the same revision and hash.
func TestTwoControlPlanes(t *testing.T) {
	section := fmt.Sprintf("store: {url: %q, secret_key_file: ", servertest.Postgres(t))
	first, second := t.TempDir(), t.TempDir()
	key := filepath.Join(first, "secrets.key")
	args := []string{"--config", settings(t, silent+strings.Replace(section, ", secret_key_file: ", "}\n", 1)), "--data", first, "--roles", "control", "--control", "127.0.0.1:0"}
	a := start(t, args...)
	args[len(args)-1] = a.control
	b := start(t, "--config", settings(t, fmt.Sprintf("%s%s%q}\n", silent, section, key)), "--data", second, "--roles", "control")
	token := ownerToken(t, first)
	planes := []*client.Client{patient(t, a.control, token), patient(t, b.control, token)}
	edges := []*program{
		start(t, "--config", edgeConfig(t, planes[0], "edge-1"), "--data", t.TempDir()),
		start(t, "--config", edgeConfig(t, planes[1], "edge-2"), "--data", t.TempDir()),
	}
	path := []string{"counter"}
	must(t, planes[0], client.Call{Operation: client.CreateTenant, Body: map[string]any{"id": "counter", "domain": "counter.test", "name": "0"}}, nil)

	// One after the other: what B changed, A does not overwrite.
	read, err := planes[0].Do(t.Context(), client.Call{Operation: client.GetTenant, Path: path})
	if err != nil {
		t.Fatal(err)
	}
	must(t, planes[1], client.Call{Operation: client.PatchTenant, Path: path, Match: read.ETag, Body: map[string]any{"name": "0"}}, nil)
	must(t, planes[1], client.Call{Operation: client.PatchTenant, Path: path, Body: map[string]any{"features": []string{"b"}}}, nil)
	_, err = planes[0].Do(t.Context(), client.Call{Operation: client.PatchTenant, Path: path, Match: read.ETag, Body: map[string]any{"features": []string{"a"}}})
	if gatehouse.CodeOf(err) != gatehouse.CodeStale || gatehouse.Problems[gatehouse.CodeStale].Status != 412 {
		t.Errorf("a stale change: %v", err)
	}

	// At once.
	var ok, stale atomic.Int64
	stop := make(chan struct{})
	var running sync.WaitGroup
	halt := sync.OnceFunc(func() { close(stop); running.Wait() })
	defer halt()
	for i := range 6 {
		w := &writer{t: t, id: i, planes: planes, ok: &ok}
		running.Go(func() { stale.Add(w.count(path, stop)) })
	}
	a, killed := mayhem(t, a, &ok, func() {}, args...)
	halt()
	var now struct{ Name string }
	must(t, planes[1], client.Call{Operation: client.GetTenant, Path: path}, &now)
	head := converged(t, planes[0], edges...)
	if other := verified(t, planes[1]); other != head {
		t.Errorf("one control plane is at %s, the other at %s", head, other)
	}
	t.Logf("%d acked, counted to %s, %d stale with 412, %d kills of one, both data planes at revision and hash %s", ok.Load(), now.Name, stale.Load(), killed, head)
	if now.Name != strconv.FormatInt(ok.Load(), 10) || stale.Load() == 0 {
		t.Error("updates were lost, or none met another")
	}
	a.signal(syscall.SIGTERM)
	a.exits(exitOK)
}

// count adds one to the number that is a tenant's name until stop is closed,
// and returns how often another was faster.
func (w *writer) count(path []string, stop <-chan struct{}) (stale int64) {
	for n := 1; ; n++ {
		select {
		case <-stop:
			return stale
		default:
		}
		read, err := w.send(client.Call{Operation: client.GetTenant, Path: path})
		var is struct{ Name string }
		if err == nil {
			err = read.Into(&is)
		}
		number, bad := strconv.Atoi(is.Name)
		if err != nil || bad != nil {
			w.t.Errorf("read the count: %q %v", is.Name, err)
			return stale
		}
		_, err = w.send(client.Call{
			Operation: client.PatchTenant, Path: path, Match: read.ETag, Idempotency: fmt.Sprintf("%d-%d", w.id, n),
			Body: map[string]any{"name": strconv.Itoa(number + 1)},
		})
		switch gatehouse.CodeOf(err) {
		case "":
			w.ok.Add(1)
		case gatehouse.CodeStale:
			stale++
		default:
			w.t.Errorf("count: %v", err)
			return stale
		}
	}
}
