package client_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/api"
	"github.com/gatehouse-gateway/gatehouse/control/client"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/policies"
	"github.com/gatehouse-gateway/gatehouse/policy"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// plane is a real control plane behind a listener that can go and come back.
type plane struct {
	t        *testing.T
	control  *control.Plane
	gateways *control.Gateways
	handler  http.Handler
	address  string
	token    string
	server   *httptest.Server
	deaf     atomic.Int32 // answers of data planes that are not taken yet
}

func newPlane(t *testing.T) *plane {
	t.Helper()
	p := &plane{t: t, gateways: control.NewGateways(time.Now, "", nil)}
	j, err := journal.Open(t.Context(), journal.Config{Address: filepath.Join(t.TempDir(), "gatehouse.db"), Index: control.Index})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	var baseline []gatehouse.Module
	for name, source := range policies.Baseline() {
		baseline = append(baseline, gatehouse.Module{Name: name, Source: source})
	}
	engine, err := policy.NewEngine(policy.Config{Baseline: baseline})
	if err != nil {
		t.Fatal(err)
	}
	if p.control, err = control.New(t.Context(), control.Parts{
		Journal: j, Engine: engine, SecretKey: make([]byte, 32), Random: rand.Reader, Now: time.Now,
		Check: func(*gatehouse.Document) gatehouse.Faults { return nil },
	}); err != nil {
		t.Fatal(err)
	}
	operators, err := control.NewOperators(t.Context(), p.control, func(context.Context, control.Access) (bool, string, error) { return true, "", nil })
	if err != nil {
		t.Fatal(err)
	}
	token, err := p.control.CreateToken(t.Context(), control.NewToken{ID: "edge", Role: control.Gateway}, control.Mutation{Actor: "test"})
	if err != nil {
		t.Fatal(err)
	}
	p.token = token.Secret
	rest := api.NewHandler(api.REST{
		Plane: p.control, Operators: operators, Gateways: p.gateways, Log: slog.New(slog.DiscardHandler), Loopback: true, Heartbeat: 20 * time.Millisecond,
	})
	p.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/outcomes") && p.deaf.Add(-1) >= 0 {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		rest.ServeHTTP(w, r)
	})
	p.start()
	t.Cleanup(func() { p.stop() })
	return p
}

// start listens, at the same address as before.
func (p *plane) start() {
	p.t.Helper()
	address := p.address
	if address == "" {
		address = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		p.t.Fatal(err)
	}
	p.address = l.Addr().String()
	p.server = &httptest.Server{Listener: l, Config: &http.Server{Handler: p.handler, ReadHeaderTimeout: time.Minute}}
	p.server.Start()
}

func (p *plane) stop() {
	if p.server != nil {
		p.server.CloseClientConnections()
		p.server.Close()
		p.server = nil
	}
}

func (p *plane) put(id, name string) uint64 {
	p.t.Helper()
	tenant := gatehouse.Tenant{ID: gatehouse.TenantID(id), Name: name, Domain: id + ".test"}
	now, err := p.control.Tenant(p.t.Context(), tenant.ID)
	if err == nil {
		now, err = p.control.ReplaceTenant(p.t.Context(), tenant.ID, tenant, nil, control.Mutation{Actor: "test", Match: &now.Revision})
	} else {
		now, err = p.control.CreateTenant(p.t.Context(), tenant, nil, control.Mutation{Actor: "test"})
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return now.Revision
}

// edge is a data plane that only remembers.
type edge struct {
	mu       sync.Mutex
	revision uint64
	hash     string
	tenants  map[string]string // names by id
	keys     map[string]bool
	full     int
	refuse   map[string]bool // names that are refused
	news     chan struct{}
}

func newEdge() *edge {
	return &edge{tenants: map[string]string{}, keys: map[string]bool{}, refuse: map[string]bool{}, news: make(chan struct{}, 1)}
}

func (e *edge) apply(u gatehouse.Update) gatehouse.Outcome {
	e.mu.Lock()
	defer e.mu.Unlock()
	o := gatehouse.Outcome{Revision: u.Revision}
	if u.Full {
		e.full++
		named := map[string]bool{}
		for i := range u.Tenants {
			named[string(u.Tenants[i].ID)] = true
		}
		maps.DeleteFunc(e.tenants, func(id, _ string) bool { return !named[id] })
		clear(e.keys)
	}
	for i := range u.Tenants {
		t := &u.Tenants[i]
		if e.refuse[t.Name] {
			o.Refused = append(o.Refused, gatehouse.Refusal{Tenant: t.ID, Faults: gatehouse.Faults{{Pointer: "/name", Reason: "the name is refused"}}})
			continue
		}
		e.tenants[string(t.ID)] = t.Name
		o.Applied = append(o.Applied, t.ID)
	}
	for _, id := range u.RemovedTenants {
		delete(e.tenants, string(id))
		o.Removed = append(o.Removed, id)
	}
	for _, k := range u.Keys {
		if delete(e.keys, string(k.Key.ID)); !k.Removed {
			e.keys[string(k.Key.ID)] = true
		}
	}
	e.revision, e.hash = u.Revision, u.Hash
	select {
	case e.news <- struct{}{}:
	default:
	}
	return o
}

func (e *edge) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var parts []string
	for _, id := range slices.Sorted(maps.Keys(e.tenants)) {
		parts = append(parts, id+"="+e.tenants[id])
	}
	return strings.Join(append(parts, slices.Sorted(maps.Keys(e.keys))...), " ")
}

// until waits for something that is polled where it has no event.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	limit := time.After(30 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-limit:
			t.Fatal("waited 30s for " + what)
		case <-tick.C:
		}
	}
}

// follower returns one of p that has nothing yet.
func (p *plane) follower(t *testing.T, e *edge, folder string, change ...func(*client.FollowerConfig)) *client.Follower {
	t.Helper()
	c, err := client.New(client.Config{Server: "http://" + p.address, Token: p.token})
	if err != nil {
		t.Fatal(err)
	}
	config := client.FollowerConfig{
		Client: c, Gateway: "edge-1", Apply: e.apply, Folder: folder, Silence: 2 * time.Second, Log: slog.New(slog.DiscardHandler),
	}
	for _, f := range change {
		f(&config)
	}
	f, err := client.NewFollower(config)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func run(t *testing.T, f *client.Follower) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func (p *plane) status() control.GatewayStatus {
	for _, g := range p.gateways.List() {
		if g.ID == "edge-1" {
			return g
		}
	}
	return control.GatewayStatus{}
}

// A data plane gets the state, then each change, and answers for it.
func TestFollow(t *testing.T) {
	p, e := newPlane(t), newEdge()
	p.put("a", "one")
	f := p.follower(t, e, t.TempDir())
	if err := f.Ready(); err == nil || err.Error() != "no configuration: the control plane has not answered yet" {
		t.Error(err)
	}
	run(t, f)
	until(t, "the state", func() bool { return e.String() == "a=one" })
	last := p.put("b", "two")
	until(t, "the change", func() bool { return e.String() == "a=one b=two" })
	key, err := p.control.CreateKey(t.Context(), "a", control.NewKey{ID: "ci"}, control.Mutation{Actor: "test"})
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the key", func() bool { return e.String() == "a=one b=two ci" })
	until(t, "the answer", func() bool { return p.status().Acknowledged == key.Revision })
	s := f.Status()
	if g := p.status(); !g.Connected || len(g.Refused) > 0 || s.Revision != key.Revision || !s.Connected || last >= key.Revision || f.Ready() != nil || e.full != 1 {
		t.Errorf("%+v\n%+v, %d full updates", g, s, e.full)
	}
	if got := f.Staleness(time.Now().Add(-time.Hour), time.Now()); got > 10*time.Second {
		t.Errorf("stale for %s", got)
	}
}

// What a data plane refuses is told, kept as it runs, and settled later.
func TestRefused(t *testing.T) {
	p, e, folder := newPlane(t), newEdge(), t.TempDir()
	e.refuse["bad"] = true
	p.put("a", "one")
	f := p.follower(t, e, folder)
	stop := run(t, f)
	until(t, "the state", func() bool { return e.String() == "a=one" })
	until(t, "the answer", func() bool { return p.status().Acknowledged > 0 })
	p.deaf.Store(1) // what was not taken is told again
	p.put("a", "bad")
	until(t, "the lost answer", func() bool { return p.deaf.Load() <= 0 })
	last := p.put("b", "two")
	until(t, "the refusal", func() bool { return len(p.status().Refused) == 1 && p.status().Acknowledged == last })
	if g := p.status(); g.Refused[0].Tenant != "a" || g.Refused[0].Faults[0].Reason != "the name is refused" || e.String() != "a=one b=two" || len(f.Status().Refused) != 1 {
		t.Errorf("%+v\n%s", g, e)
	}
	until(t, "the disk", func() bool { return f.Status().Kept == last })
	stop()
	// The next process runs what ran.
	next := newEdge()
	next.refuse["bad"] = true
	f = p.follower(t, next, folder)
	if err := f.Restore(); err != nil || next.String() != "a=one b=two" {
		t.Fatal(err, next)
	}
	run(t, f)
	last = p.put("a", "good")
	until(t, "the settling", func() bool { return next.String() == "a=good b=two" && p.status().Acknowledged == last })
	if g := p.status(); len(g.Refused) > 0 || next.full != 1 {
		t.Errorf("%+v, %d full", g, next.full)
	}
}

// A data plane whose control plane has gone serves on, starts again from its
// disk, and goes on from where it was when the control plane is back.
func TestAway(t *testing.T) {
	p, e, folder := newPlane(t), newEdge(), t.TempDir()
	p.put("a", "one")
	f := p.follower(t, e, folder)
	stop := run(t, f)
	until(t, "the state", func() bool { return e.String() == "a=one" })
	last := p.put("a", "two")
	until(t, "the disk", func() bool { return f.Status().Kept == last })
	p.stop()
	until(t, "the loss", func() bool { s := f.Status(); return !s.Connected && s.Err != nil })
	if e.String() != "a=two" || f.Ready() != nil {
		t.Errorf("%s, %v", e, f.Ready())
	}
	stop()

	next := newEdge()
	f = p.follower(t, next, folder)
	if err := f.Restore(); err != nil {
		t.Fatal(err)
	}
	stop = run(t, f)
	until(t, "an attempt", func() bool { return f.Status().Err != nil })
	if s := f.Status(); next.String() != "a=two" || s.Restored != last || s.Hash != e.hash || f.Ready() != nil {
		t.Errorf("%s %+v", next, s)
	}
	last = p.put("b", "three") // while nobody listens
	p.start()
	until(t, "the rest", func() bool { return next.String() == "a=two b=three" })
	if next.full != 1 { // that of the disk
		t.Errorf("%d full updates: it did not go on from where it was", next.full)
	}
	until(t, "the disk", func() bool { return f.Status().Kept == last })
	stop()
}

// Damaged snapshots: the one before is taken, and what is missing is fetched;
// with none the process says why, until the control plane answers.
func TestDamagedStart(t *testing.T) {
	p, e, folder := newPlane(t), newEdge(), t.TempDir()
	p.put("a", "one")
	f := p.follower(t, e, folder)
	stop := run(t, f)
	until(t, "the state", func() bool { return f.Status().Kept > 0 })
	stop()
	// A second snapshot, from a control plane that does not know the position.
	f = p.follower(t, e, folder, func(c *client.FollowerConfig) { c.Gateway = "edge-2" })
	last := p.put("a", "two")
	stop = run(t, f) // without Restore
	until(t, "the disk", func() bool { return f.Status().Kept == last })
	stop()
	p.stop()
	files, err := filepath.Glob(filepath.Join(folder, "state-*"))
	if err != nil || len(files) != 2 {
		t.Fatal(files, err)
	}
	damage := func(name string) {
		b, err := os.ReadFile(name)
		if err == nil {
			b[60] ^= 1
			err = os.WriteFile(name, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	damage(files[1])
	next := newEdge()
	f = p.follower(t, next, folder)
	if err := f.Restore(); err != nil || next.String() != "a=one" {
		t.Fatal(err, next)
	}
	p.start()
	stop = run(t, f)
	until(t, "a new snapshot", func() bool { return f.Status().Kept == last && next.String() == "a=two" })
	stop()
	p.stop()
	if files, err = filepath.Glob(filepath.Join(folder, "state-*")); err != nil || len(files) != 2 {
		t.Fatal(files, err)
	}
	damage(files[1])
	damage(files[0])
	next = newEdge()
	f = p.follower(t, next, folder)
	err = f.Restore()
	if err == nil || strings.Count(err.Error(), "its checksum differs") != 2 {
		t.Error(err)
	}
	stop = run(t, f)
	until(t, "an attempt", func() bool { return f.Status().Err != nil })
	if err := f.Ready(); err == nil || !strings.Contains(err.Error(), "its checksum differs") || !strings.Contains(err.Error(), "does not answer") {
		t.Error(err)
	}
	p.start()
	until(t, "the state", func() bool { return next.String() == "a=two" && f.Ready() == nil })
	until(t, "the disk", func() bool { return f.Status().Kept == last })
	stop()
	final := newEdge()
	f = p.follower(t, final, folder)
	if err := f.Restore(); err != nil || final.String() != "a=two" {
		t.Error(err, final)
	}
}

// A control plane that says nothing is given up and called again, and so is one
// that talks nonsense.
func TestSilence(t *testing.T) {
	var calls int
	var mu sync.Mutex
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		calls++
		n := calls
		mu.Unlock()
		switch n {
		case 1:
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush() // and then nothing
			<-r.Context().Done()
		case 2:
			_, _ = io.WriteString(w, "{nonsense}\n") // the follower reads it
		case 3:
			_, _ = io.WriteString(w, `{"update":{"revision":5,"full":true}}`+"\n"+`{"update":{"revision":6},"last":true}`+"\n") // parts that do not belong together
		default:
			fmt.Fprintln(w, `{"unknown":"record"}`)
			fmt.Fprintln(w, `{"update":{"revision":7,"hash":"h","full":true,"tenants":[{"document":{"id":"a","name":"one"}}]}}`)
			fmt.Fprintln(w, `{"update":{"revision":7,"hash":"h","full":true,"tenants":[{"document":{"id":"b","name":"two"}}]},"last":true}`)
			_ = http.NewResponseController(w).Flush() // the follower reads it
			<-r.Context().Done()
		}
	})
	s := httptest.NewServer(handler)
	defer s.Close()
	c, err := client.New(client.Config{Server: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	e := newEdge()
	f, err := client.NewFollower(client.FollowerConfig{Client: c, Gateway: "g", Apply: e.apply, Silence: 100 * time.Millisecond, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, f)
	until(t, "the state", func() bool { return e.String() == "a=one b=two" })
	if s := f.Status(); s.Revision != 7 || s.Hash != "h" || e.full != 1 {
		t.Errorf("%+v", s)
	}
	stop()
}

// A folder that another process still writes is only read.
func TestHold(t *testing.T) {
	p, e, folder := newPlane(t), newEdge(), t.TempDir()
	p.put("a", "one")
	old := p.follower(t, e, folder)
	stop := run(t, old)
	until(t, "the disk", func() bool { return old.Status().Kept > 0 })
	hold := make(chan struct{})
	next := newEdge()
	f := p.follower(t, next, folder, func(c *client.FollowerConfig) { c.Hold, c.Gateway = hold, "edge-2" })
	if err := f.Restore(); err != nil || next.String() != "a=one" {
		t.Fatal(err, next)
	}
	stopNext := run(t, f)
	last := p.put("a", "two")
	until(t, "both", func() bool { return next.String() == "a=two" && old.Status().Kept == last })
	if kept := f.Status().Kept; kept == last {
		t.Errorf("it wrote %d", kept)
	}
	stop()
	close(hold)
	until(t, "the folder", func() bool { return f.Status().Kept == last })
	stopNext()
	final := newEdge()
	f = p.follower(t, final, folder)
	if err := f.Restore(); err != nil || final.String() != "a=two" {
		t.Error(err, final)
	}
}
