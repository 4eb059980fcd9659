package webhook_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/control/webhook"
	"github.com/gatehouse-gateway/gatehouse/metering/servertest"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.uber.org/goleak"
)

var stores = map[string]func(testing.TB) string{
	"SQLite":     func(t testing.TB) string { return filepath.Join(t.TempDir(), "journal.db") },
	"PostgreSQL": servertest.Postgres,
}

// office is a journal, a receiver and senders.
type office struct {
	t       *testing.T
	address string
	journal *journal.Journal
	server  *httptest.Server

	mu       sync.Mutex
	now      time.Time                          // guarded by mu, as is what follows
	got      []*request                         // received so far
	answer   func(n int, w http.ResponseWriter) // nil: 204; n counts from 1
	received chan struct{}
}

type request struct {
	header http.Header
	body   []byte
	path   string
}

func open(t *testing.T, address string) *office {
	t.Helper()
	o := &office{t: t, address: address, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), received: make(chan struct{}, 1000)}
	o.server = httptest.NewServer(http.HandlerFunc(o.serve))
	t.Cleanup(o.server.Close)
	o.journal = o.openJournal()
	return o
}

func (o *office) openJournal() *journal.Journal {
	o.t.Helper()
	j, err := journal.Open(o.t.Context(), journal.Config{Address: o.address, Clock: o.clock})
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() { j.Close() })
	return j
}

func (o *office) clock() time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.now
}

func (o *office) pass(d time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.now = o.now.Add(d)
}

func (o *office) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		o.t.Error(err)
	}
	o.mu.Lock()
	o.got = append(o.got, &request{r.Header, body, r.URL.Path})
	n, answer := len(o.got), o.answer
	o.mu.Unlock()
	if answer == nil {
		w.WriteHeader(http.StatusNoContent)
	} else {
		answer(n, w)
	}
	o.received <- struct{}{}
}

// requests are those received so far.
func (o *office) requests() []*request {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.got)
}

func (o *office) sender(j *journal.Journal) *webhook.Sender {
	o.t.Helper()
	dialer := &net.Dialer{}
	s, err := webhook.New(webhook.Config{
		Journal: j, Kinds: []string{"invoice.paid", "invoice.void", "alert.triggered"}, Key: bytes.Repeat([]byte{7}, 32), Dial: dialer.DialContext,
		AllowHTTP: true, Random: rand.Reader, Now: o.clock,
		Read: func(e *journal.Event) (webhook.Message, bool) {
			data, err := json.Marshal(map[string]string{"subject": e.Subject, "why": e.Why})
			return webhook.Message{Kind: e.Kind, Tenant: e.Tenant, At: e.At, Data: data}, err == nil
		},
	})
	if err != nil {
		o.t.Fatal(err)
	}
	return s
}

func (o *office) endpoint(s *webhook.Sender, in webhook.NewEndpoint) webhook.Endpoint {
	o.t.Helper()
	if in.URL == "" {
		in.URL = o.server.URL + "/" + in.ID
	}
	e, err := s.Create(o.t.Context(), in, as)
	if err != nil {
		o.t.Fatal(err)
	}
	return e
}

// happen makes an event.
func (o *office) happen(kind, tenant, subject, why string) {
	o.t.Helper()
	if _, err := o.journal.Commit(o.t.Context(), journal.Change{Actor: "test", Kind: kind, Tenant: tenant, Subject: subject, Why: why}); err != nil {
		o.t.Fatal(err)
	}
}

// rounds calls Round until nothing is due, and returns when something is.
func (o *office) rounds(s *webhook.Sender) time.Time {
	o.t.Helper()
	for {
		next, err := s.Round(o.t.Context())
		if err != nil {
			o.t.Fatal(err)
		}
		if next.After(o.clock()) {
			return next
		}
	}
}

var as = control.Mutation{Actor: "test"}

// TestSigned holds that messages are told to whom they are of interest, signed
// with every secret in use, and that those of before the endpoint are not.
func TestSigned(t *testing.T) {
	t.Parallel()
	for name, address := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := open(t, address(t))
			s := o.sender(o.journal)
			o.happen("invoice.paid", "a", "before", "")
			o.pass(time.Second)
			all := o.endpoint(s, webhook.NewEndpoint{ID: "all"})
			o.endpoint(s, webhook.NewEndpoint{ID: "ours", Tenant: "b", Kinds: []string{"invoice.*"}})
			o.happen("invoice.paid", "a", "1", "")
			o.happen("tenant.create", "b", "2", "")
			o.happen("invoice.void", "b", "3", "")
			o.happen("alert.triggered", "b", "4", "")
			o.rounds(s)
			var got []string
			for _, r := range o.requests() {
				got = append(got, r.path+" "+string(r.body))
			}
			slices.Sort(got)
			want := `/all {"type":"alert.triggered","timestamp":"2026-01-01T00:00:01Z","data":{"subject":"4","why":""}}
/all {"type":"invoice.paid","timestamp":"2026-01-01T00:00:01Z","data":{"subject":"1","why":""}}
/all {"type":"invoice.void","timestamp":"2026-01-01T00:00:01Z","data":{"subject":"3","why":""}}
/ours {"type":"invoice.void","timestamp":"2026-01-01T00:00:01Z","data":{"subject":"3","why":""}}`
			if text := strings.Join(got, "\n"); text != want {
				t.Errorf("got\n%s\nwant\n%s", text, want)
			}
			rotated, err := s.Rotate(t.Context(), "", "all", time.Hour, as)
			if err != nil {
				t.Fatal(err)
			}
			for i, tt := range []struct {
				after    time.Duration
				old, now bool
			}{{0, true, true}, {2 * time.Hour, false, true}} {
				o.pass(tt.after)
				o.happen("invoice.paid", "a", fmt.Sprint("rotated", i), "")
				o.rounds(s)
				requests := o.requests()
				last := requests[len(requests)-1]
				if verifies(t, all.Secret, last) != tt.old || verifies(t, rotated.Secret, last) != tt.now {
					t.Errorf("after %s: %s", tt.after, last.header.Get("webhook-signature"))
				}
			}
			list, err := s.List(t.Context(), "")
			if err != nil || len(list) != 1 || list[0].Secret != "" || list[0].Secrets[0].Sealed != nil {
				t.Error(list, err)
			}
			secrets(t, o, all.Secret, rotated.Secret)
		})
	}
}

func verifies(t *testing.T, secret string, r *request) bool {
	t.Helper()
	v, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	return v.VerifyIgnoringTimestamp(r.body, r.header) == nil
}

// secrets fails if one of them stands in the journal.
func secrets(t *testing.T, o *office, texts ...string) {
	t.Helper()
	var b bytes.Buffer
	if _, err := o.journal.Export(t.Context(), &b, 0); err != nil {
		t.Fatal(err)
	}
	for _, s := range texts {
		if strings.Contains(b.String(), strings.TrimPrefix(s, "whsec_")) {
			t.Error("a secret stands in the journal in clear")
		}
	}
}

// TestRetries holds the times of the attempts, and that each is of the same
// message.
func TestRetries(t *testing.T) {
	t.Parallel()
	o := open(t, stores["SQLite"](t))
	s := o.sender(o.journal)
	o.endpoint(s, webhook.NewEndpoint{ID: "e"})
	o.answer = func(_ int, w http.ResponseWriter) { w.WriteHeader(http.StatusInternalServerError) }
	o.happen("invoice.paid", "a", "1", "")
	for i, want := range []time.Duration{
		0, 5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
	} {
		if i > 0 {
			d := o.deliveries(s, "e")[0]
			wait := d.Next.Sub(o.clock())
			if d.Attempts != i || wait < want || wait > want+want/10 {
				t.Errorf("attempt %d comes after %s, not %s", i+1, wait, want)
			}
			o.pass(want - time.Millisecond)
			o.rounds(s)
			if n := len(o.requests()); n != i {
				t.Errorf("attempt %d came early", n)
			}
			o.pass(want/10 + time.Millisecond)
		}
		o.rounds(s)
	}
	o.pass(100 * time.Hour)
	o.rounds(s)
	requests := o.requests()
	if d := o.deliveries(s, "e"); len(requests) != 10 || len(d) != 1 || !d[0].Failed || d[0].Status != 500 || d[0].Reason != "the answer was 500" {
		t.Errorf("%d attempts, %+v", len(requests), d)
	}
	for _, r := range requests {
		if !bytes.Equal(r.body, requests[0].body) || r.header.Get("webhook-id") != requests[0].header.Get("webhook-id") || !strings.HasPrefix(r.header.Get("webhook-id"), "msg_") {
			t.Errorf("another message: %s %s", r.header.Get("webhook-id"), r.body)
		}
	}
}

func (o *office) deliveries(s *webhook.Sender, endpoint string) []webhook.Delivery {
	o.t.Helper()
	d, err := s.Deliveries(o.t.Context(), "", endpoint)
	if err != nil {
		o.t.Fatal(err)
	}
	return d
}

// TestAnswers holds what answers other than 2xx and 500 bring about.
func TestAnswers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		answer func(w http.ResponseWriter)
		want   string // attempts, waiting at least, failed, disabled
	}{
		{"gone", func(w http.ResponseWriter) { w.WriteHeader(http.StatusGone) }, "1 0s true it answered 410 Gone"},
		{"retry after", func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusTooManyRequests)
		}, "1 1h0m0s false "},
		{"retry after a date", func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "Thu, 01 Jan 2026 02:00:00 GMT")
			w.WriteHeader(http.StatusServiceUnavailable)
		}, "1 2h0m0s false "},
		{"retry after too long", func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "9999999")
			w.WriteHeader(http.StatusServiceUnavailable)
		}, "1 24h0m0s false "},
		{"redirect", func(w http.ResponseWriter) {
			w.Header().Set("Location", "http://127.0.0.1:1/")
			w.WriteHeader(http.StatusFound)
		}, "1 5s false "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := open(t, stores["SQLite"](t))
			s := o.sender(o.journal)
			o.endpoint(s, webhook.NewEndpoint{ID: "e"})
			o.answer = func(_ int, w http.ResponseWriter) { tt.answer(w) }
			o.happen("invoice.paid", "a", "1", "")
			o.rounds(s)
			d := o.deliveries(s, "e")[0]
			list, err := s.List(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			wait := time.Duration(0)
			if !d.Next.IsZero() {
				wait = d.Next.Sub(o.clock()).Truncate(5 * time.Second)
			}
			if got := fmt.Sprintf("%d %s %t %s", d.Attempts, wait, d.Failed, list[0].Disabled); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			o.happen("invoice.paid", "a", "2", "")
			o.rounds(s)
			if n := len(o.requests()); (n == 1) != (list[0].Disabled != "") {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// TestRestart ends a sender between sending and noting: the next one sends the
// message again under the same id, and loses none.
func TestRestart(t *testing.T) {
	t.Parallel()
	o := open(t, stores["SQLite"](t))
	first := o.openJournal()
	s := o.sender(first)
	o.endpoint(s, webhook.NewEndpoint{ID: "e"})
	o.happen("invoice.paid", "a", "1", "")
	o.happen("invoice.paid", "a", "2", "")
	o.answer = func(n int, w http.ResponseWriter) {
		if n == 1 {
			first.Close() // what was sent can no longer be noted
		}
		w.WriteHeader(http.StatusNoContent)
	}
	if _, err := s.Round(t.Context()); err == nil {
		t.Fatal("the round was noted")
	}
	heir := o.sender(o.journal)
	if next, err := heir.Round(t.Context()); err != nil || next.Sub(o.clock()) > 3*time.Minute {
		t.Fatal(next, err)
	}
	before := len(o.requests())
	o.pass(3*time.Minute + time.Second) // the lease
	o.rounds(heir)
	times := map[string]int{}
	for _, r := range o.requests() {
		times[r.header.Get("webhook-id")]++
	}
	if len(times) != 2 || len(o.requests()) != before+2 || len(o.deliveries(heir, "e")) != 0 {
		t.Error(times, before)
	}
}

// TestTwoSenders holds that of two control planes one sends.
func TestTwoSenders(t *testing.T) {
	t.Parallel()
	for name, address := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := open(t, address(t))
			senders := []*webhook.Sender{o.sender(o.journal), o.sender(o.openJournal())}
			o.endpoint(senders[0], webhook.NewEndpoint{ID: "e"})
			const messages = 25
			for i := range messages {
				o.happen("invoice.paid", "a", fmt.Sprint(i), "")
			}
			for range 10 {
				var all sync.WaitGroup
				for _, s := range senders {
					all.Go(func() {
						if _, err := s.Round(t.Context()); err != nil {
							t.Error(err)
						}
					})
				}
				all.Wait()
			}
			times := map[string]int{}
			for _, r := range o.requests() {
				times[r.header.Get("webhook-id")]++
			}
			if len(times) != messages || len(o.requests()) != messages {
				t.Errorf("%d messages, %d requests", len(times), len(o.requests()))
			}
		})
	}
}

// TestSize holds that a message is below 20 kB, whatever it tells.
func TestSize(t *testing.T) {
	t.Parallel()
	o := open(t, stores["SQLite"](t))
	s := o.sender(o.journal)
	o.endpoint(s, webhook.NewEndpoint{ID: "e"})
	o.happen("invoice.paid", "a", "1", strings.Repeat("x", 30_000))
	o.rounds(s)
	if body := o.requests()[0].body; len(body) >= webhook.MaxPayload || !bytes.Contains(body, []byte(`{"tenant":"a","too_large":true}`)) {
		t.Errorf("%d bytes: %.200s", len(body), body)
	}
}

// TestRun holds that an event is told at once, that the signature is fresh,
// and that Run ends with all that it has started.
func TestRun(t *testing.T) {
	o := open(t, stores["SQLite"](t))
	o.now = time.Now()
	s := o.sender(o.journal)
	e := o.endpoint(s, webhook.NewEndpoint{ID: "e"})
	leaks := goleak.IgnoreCurrent()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	for i := range 2 {
		o.happen("invoice.paid", "a", fmt.Sprint(i), "")
		select {
		case <-o.received:
		case <-time.After(20 * time.Second):
			t.Fatal("nothing came")
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	o.server.CloseClientConnections()
	goleak.VerifyNone(t, leaks, goleak.IgnoreTopFunction("net/http.(*conn).serve"), goleak.IgnoreAnyFunction("net/http.(*connReader).backgroundRead"), goleak.IgnoreAnyFunction("database/sql.(*DB).connectionOpener"))
	v, err := standardwebhooks.NewWebhook(e.Secret)
	if err != nil {
		t.Fatal(err)
	}
	if r := o.requests()[0]; v.Verify(r.body, r.header) != nil {
		t.Error(r.header)
	}
}

// TestRefusals holds that bad endpoints are named and not stored.
func TestRefusals(t *testing.T) {
	t.Parallel()
	o := open(t, stores["SQLite"](t))
	s, err := webhook.New(webhook.Config{Journal: o.journal, Kinds: []string{"invoice.paid"}, Key: make([]byte, 32), Random: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		in   webhook.NewEndpoint
		want string
	}{
		{webhook.NewEndpoint{ID: "A b", URL: "https://x.test/"}, "/id"},
		{webhook.NewEndpoint{ID: "a", URL: "http://x.test/"}, "/url"},
		{webhook.NewEndpoint{ID: "a", URL: "ftp://x.test/"}, "/url"},
		{webhook.NewEndpoint{ID: "a", URL: "https://me:secret@x.test/"}, "/url"},
		{webhook.NewEndpoint{ID: "a", URL: "/x"}, "/url"},
		{webhook.NewEndpoint{ID: "a", URL: "https://x.test/", Kinds: []string{"invoice.paid", "tenant.create"}}, "/kinds/1"},
	} {
		_, err := s.Create(t.Context(), tt.in, as)
		var bad *control.Invalid
		if !errors.As(err, &bad) || bad.Faults[0].Pointer != tt.want {
			t.Errorf("%+v: %v", tt.in, err)
		}
	}
	if list, err := s.List(t.Context(), ""); err != nil || len(list) != 0 {
		t.Error(list, err)
	}
	if _, err := webhook.New(webhook.Config{Key: make([]byte, 31), Random: rand.Reader}); err == nil {
		t.Error("a short key was taken")
	}
	if _, err := s.Rotate(t.Context(), "", "none", 0, as); gatehouse.CodeOf(err) != gatehouse.CodeNotFound {
		t.Error(err)
	}
}

// TestGuard holds that no address of a network that is not public is dialled,
// whatever name leads there.
func TestGuard(t *testing.T) {
	t.Parallel()
	dial := webhook.Guard(&net.Dialer{Timeout: time.Second})
	for _, address := range []string{
		"127.0.0.1:1", "[::1]:1", "10.0.0.1:1", "172.16.0.1:1", "192.168.1.1:1", "169.254.169.254:80", "[fe80::1]:1", "[fd00::1]:1", "0.0.0.0:1", "[::]:1",
		"100.64.0.1:1", "192.0.2.1:1", "198.18.0.1:1", "224.0.0.1:1", "255.255.255.255:1", "[::ffff:127.0.0.1]:1", "[64:ff9b::7f00:1]:1", "[2002:7f00:1::]:1",
		"localhost:1",
	} {
		c, err := dial(t.Context(), "tcp", address)
		if err == nil {
			c.Close()
		}
		if gatehouse.CodeOf(err) != gatehouse.CodeBackendProhibited && (!strings.HasPrefix(address, "[") || !isRoute(err)) {
			t.Errorf("%s: %v", address, err)
		}
	}
	o := open(t, stores["SQLite"](t))
	s, err := webhook.New(webhook.Config{
		Journal: o.journal, Kinds: []string{"invoice.paid"}, Key: make([]byte, 32), Random: rand.Reader, AllowHTTP: true, Now: o.clock,
		Read: func(e *journal.Event) (webhook.Message, bool) {
			return webhook.Message{Kind: e.Kind, Data: []byte("{}")}, true
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	o.endpoint(s, webhook.NewEndpoint{ID: "inside"})
	o.happen("invoice.paid", "", "1", "")
	o.rounds(s)
	if d := o.deliveries(s, "inside"); len(o.requests()) != 0 || !strings.Contains(d[0].Reason, "public") {
		t.Error(len(o.requests()), d)
	}
}

// isRoute tells that there is no way to an address at all: a machine without
// IPv6.
func isRoute(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "cannot assign") || strings.Contains(err.Error(), "unreachable") || strings.Contains(err.Error(), "not supported"))
}
