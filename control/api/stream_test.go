package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
)

// follower reads a stream.
type follower struct {
	t     *testing.T
	body  io.ReadCloser
	lines *bufio.Reader
}

// served is the API on a real listener, whose bounds on requests are shorter
// than a stream.
func (s *service) served(bound time.Duration) string {
	server := httptest.NewUnstartedServer(s.handler)
	server.Config.WriteTimeout, server.Config.ReadTimeout = bound, bound
	server.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if err := c.(*net.TCPConn).SetWriteBuffer(16 << 10); err != nil { // else the kernel would read for a slow follower
			s.t.Error(err)
		}
		return ctx
	}
	server.Start()
	s.t.Cleanup(server.Close)
	return server.URL
}

func follow(t *testing.T, url, token, name string, from control.Position) *follower {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/api/v1/stream?after=%d&hash=%s", url, from.Revision, from.Hash), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("X-Gatehouse-Gateway", name)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { answer.Body.Close() })
	if answer.StatusCode != http.StatusOK {
		t.Fatal(answer.Status)
	}
	return &follower{t, answer.Body, bufio.NewReader(answer.Body)}
}

// next is the next line.
func (f *follower) next() record {
	f.t.Helper()
	line, err := f.lines.ReadBytes('\n')
	if err != nil {
		f.t.Fatal("the stream ended:", err)
	}
	var r record
	if err := json.Unmarshal(line, &r); err != nil {
		f.t.Fatal(err)
	}
	return r
}

// update is the next whole update, its parts joined.
func (f *follower) update() gatehouse.Update {
	f.t.Helper()
	var whole gatehouse.Update
	for {
		r := f.next()
		if r.Update == nil {
			continue
		}
		var u gatehouse.Update
		if err := json.Unmarshal(r.Update, &u); err != nil {
			f.t.Fatal(err)
		}
		u.Plans, u.Tenants, u.Keys = append(whole.Plans, u.Plans...), append(whole.Tenants, u.Tenants...), append(whole.Keys, u.Keys...)
		if whole = u; r.Last {
			return whole
		}
	}
}

func (s *service) made(request string) {
	s.t.Helper()
	if w := s.ask(request); w.Code >= 300 {
		s.t.Fatal(request, w.Code, w.Body)
	}
}

func (s *service) status(name string) control.GatewayStatus {
	s.t.Helper()
	var g control.GatewayStatus
	if err := json.Unmarshal(s.ask("GET /api/v1/gateways/"+name).Body.Bytes(), &g); err != nil {
		s.t.Fatal(err)
	}
	return g
}

// A follower gets a snapshot with secrets, deltas, heartbeats, and answers.
// The server's bounds on requests do not end its stream.
func TestStream(t *testing.T) {
	s := startWith(t, "", func(r *REST) { r.Heartbeat = 20 * time.Millisecond })
	const bound = 300 * time.Millisecond
	url, token := s.served(bound), s.token(control.Gateway)
	s.made("POST /api/v1/tenants\n\n" + `{"id": "a", "identity": {"jwt": [{"issuer": "i", "audience": ["a"], "algorithms": ["HS256"], "secret_file": "hs"}]}, "files": {"hs": "0123456789abcdef0123456789abcdef"}}`)
	f := follow(t, url, token, "gw", control.Position{})
	u := f.update()
	if !u.Full || len(u.Tenants) != 1 || len(u.Plans) != 3 || string(u.Tenants[0].Identity.JWT[0].Secret) != "0123456789abcdef0123456789abcdef" {
		t.Errorf("the snapshot: %+v", u)
	}
	for range int(2*bound/(20*time.Millisecond)) + 5 {
		if r := f.next(); r.Heartbeat != u.Revision {
			t.Fatalf("%+v, want a heartbeat of %d", r, u.Revision)
		}
	}
	began := time.Now()
	s.made("POST /api/v1/tenants\n\n" + `{"id": "b", "domain": "b.test"}`)
	d := f.update()
	took := time.Since(began)
	if d.Full || d.Revision != u.Revision+1 || len(d.Tenants) != 1 || len(d.Plans) != 0 {
		t.Errorf("the delta: %+v", d)
	}
	t.Logf("a change was there after %v", took)

	// ACK and NACK.
	report := func(o gatehouse.Outcome) *http.Response {
		body, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/api/v1/gateways/gw/outcomes", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		return answer
	}
	refused := []gatehouse.Refusal{{Tenant: "b", Faults: gatehouse.Faults{{Pointer: "/domain", Reason: "no"}}}}
	if a := report(gatehouse.Outcome{Revision: d.Revision, Refused: refused}); a.StatusCode != http.StatusNoContent {
		t.Fatal(a.Status)
	}
	if g := s.status("gw"); !g.Connected || g.Sent != d.Revision || g.Acknowledged != d.Revision || len(g.Refused) != 1 || g.Lag <= 0 {
		t.Errorf("%+v", g)
	}
	s.made("PATCH /api/v1/tenants/b\n\n" + `{"name": "B"}`)
	e := f.update()
	report(gatehouse.Outcome{Revision: e.Revision, Applied: []gatehouse.TenantID{"b"}})
	if g := s.status("gw"); g.Acknowledged != e.Revision || len(g.Refused) != 0 {
		t.Errorf("%+v", g)
	}

	// It goes away, misses changes, and is told them as one.
	f.body.Close()
	for range 20 {
		s.made("PATCH /api/v1/tenants/b\n\n" + `{"name": "C"}`)
		s.made("PATCH /api/v1/tenants/b\n\n" + `{"name": "D"}`)
	}
	s.made("DELETE /api/v1/tenants/a")
	again := follow(t, url, token, "gw", control.Position{Revision: e.Revision, Hash: e.Hash})
	if m := again.update(); m.Full || m.Revision != e.Revision+41 || len(m.Tenants) != 1 || m.Tenants[0].Name != "D" || len(m.RemovedTenants) != 1 {
		t.Errorf("the merged delta: %+v", m)
	}
	// One with the position of another journal gets everything.
	foreign := follow(t, url, s.token(control.Gateway), "other", control.Position{Revision: e.Revision, Hash: strings.Repeat("0", 64)})
	if m := foreign.update(); !m.Full || len(m.Tenants) != 1 {
		t.Errorf("%+v", m)
	}
	if w := s.ask("GET /api/v1/stream\nAuthorization: Bearer " + s.token(control.Gateway)); w.Code != http.StatusUnprocessableEntity {
		t.Error(w.Code, w.Body)
	}
}

// A follower that does not read holds up neither writers nor other followers,
// and what it has missed is merged.
func TestSlowFollower(t *testing.T) {
	s := start(t, "")
	url, token, another := s.served(time.Minute), s.tokenOf("slow"), s.tokenOf("quick")
	s.made("POST /api/v1/tenants\n\n" + `{"id": "a", "identity": {"jwt": [{"issuer": "i", "audience": ["a"], "algorithms": ["RS256"], "jwks_file": "keys"}]}}`)
	slow, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	if err := slow.(*net.TCPConn).SetReadBuffer(32 << 10); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(slow, "GET /api/v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\nX-Gatehouse-Gateway: slow\r\n\r\n", token)
	quick := follow(t, url, another, "quick", control.Position{})
	quick.update()
	large := strings.Repeat("x", 30_000)
	const changes = 40 // far more than the sockets hold
	for i := range changes {
		s.made("PATCH /api/v1/tenants/a\n\n" + fmt.Sprintf(`{"files": {"keys": "%d %s"}}`, i, large))
		if u := quick.update(); len(u.Tenants) != 1 {
			t.Fatalf("%+v", u)
		}
	}
	if g := s.status("slow"); !g.Connected || g.Sent >= s.status("quick").Sent {
		t.Errorf("slow: %+v", g)
	}
	// It wakes up, and is told less than there was.
	lines := bufio.NewReader(slow)
	head, err := s.plane.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(line, `"update"`) {
			n++
		}
		if strings.Contains(line, fmt.Sprintf(`"revision":%d,`, head.Seq)) {
			if n >= changes {
				t.Errorf("%d updates for %d changes", n, changes)
			}
			t.Logf("%d updates for %d changes", n, changes)
			return
		}
	}
}

// Followers that come at once share one snapshot.
func TestSharedSnapshot(t *testing.T) {
	s := start(t, "")
	s.made("POST /api/v1/tenants\n\n" + `{"id": "a"}`)
	first, err := s.plane.Snapshot(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	s.made("POST /api/v1/tenants\n\n" + `{"id": "b"}`)
	second, err := s.plane.Snapshot(t.Context(), 0)
	if err != nil || second != first || first.Size() == 0 {
		t.Error(err, second == first, first.Size())
	}
	n := 0
	for text, last := range first.Parts() {
		var u gatehouse.Update
		if err := json.Unmarshal(text, &u); err != nil || !u.Full || u.Revision != first.Revision {
			t.Error(err, u)
		}
		if n++; !last {
			t.Error("a second part")
		}
	}
	// Its position leads on.
	if known, err := s.plane.Knows(t.Context(), first.Position); !known || err != nil {
		t.Error(known, err)
	}
}
