package webhook_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/control/webhook"
)

// A message that failed for good is sent again when an operator says so, by
// Run at once.
func TestRetry(t *testing.T) {
	t.Parallel()
	o := open(t, stores["SQLite"](t))
	s := o.sender(o.journal)
	o.endpoint(s, webhook.NewEndpoint{ID: "e"})
	o.answer = func(_ int, w http.ResponseWriter) { w.WriteHeader(http.StatusInternalServerError) }
	o.happen("invoice.paid", "a", "1", "")
	for range 10 {
		o.rounds(s)
		<-o.received
		o.pass(27 * time.Hour)
	}
	d := o.deliveries(s, "e")[0]
	if !d.Failed || d.Attempts != 10 {
		t.Fatalf("%+v", d)
	}
	retry := func(event uint64, m control.Mutation) (webhook.Delivery, error) {
		m.Actor = "test"
		return s.Retry(t.Context(), "", "e", event, m)
	}
	if _, err := retry(d.Event+1, control.Mutation{}); gatehouse.CodeOf(err) != gatehouse.CodeNotFound {
		t.Error(err)
	}
	if v, err := retry(d.Event, control.Mutation{DryRun: true}); err != nil || v.Failed || !o.deliveries(s, "e")[0].Failed {
		t.Errorf("a dry run: %+v, %v", v, err)
	}
	if _, err := s.Enable(t.Context(), "", "e", "it moves", control.Mutation{Actor: "test"}); err != nil {
		t.Fatal(err)
	}
	if _, err := retry(d.Event, control.Mutation{}); gatehouse.CodeOf(err) != gatehouse.CodeConflict {
		t.Error(err)
	}
	if _, err := s.Enable(t.Context(), "", "e", "", control.Mutation{Actor: "test"}); err != nil {
		t.Fatal(err)
	}

	o.mu.Lock()
	o.answer = nil
	o.mu.Unlock()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	// taken waits until the next message was taken and that is noted.
	taken := func(after uint64) {
		t.Helper()
		wait, enough := context.WithTimeout(t.Context(), 30*time.Second) // Run looks by itself after a minute only
		defer enough()
		for e, err := range o.journal.Watch(wait, after) {
			if err != nil {
				t.Fatal("it was not sent: ", err)
			}
			if e.Kind == "webhook.note" {
				return
			}
		}
		t.Fatal("it was not sent")
	}
	head := func() uint64 {
		h, err := o.journal.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return h.Seq
	}
	before := head()
	o.happen("invoice.paid", "a", "2", "")
	taken(before)
	before = head()
	once := control.Mutation{Idempotency: journal.Idempotency{Key: "once", Request: "r"}}
	if v, err := retry(d.Event, once); err != nil || v.Attempts != 0 || v.Failed {
		t.Fatalf("%+v, %v", v, err)
	}
	taken(before)
	// Its repetition is answered as it was, though the delivery is no more.
	if v, err := retry(d.Event, once); err != nil || v.Event != d.Event || v.Attempts != 0 {
		t.Errorf("again: %+v, %v", v, err)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if left := o.deliveries(s, "e"); len(left) != 0 || len(o.requests()) != 12 {
		t.Errorf("%d requests, left are %+v", len(o.requests()), left)
	}
	if _, err := retry(d.Event, control.Mutation{}); gatehouse.CodeOf(err) != gatehouse.CodeNotFound {
		t.Error(err)
	}
}

// A dry run makes, changes and removes nothing, and shows no secret.
func TestDryRun(t *testing.T) {
	t.Parallel()
	o := open(t, stores["SQLite"](t))
	s := o.sender(o.journal)
	dry := control.Mutation{Actor: "test", DryRun: true}
	in := webhook.NewEndpoint{ID: "e", URL: "https://e.test/"}
	if e, err := s.Create(t.Context(), in, dry); err != nil || e.Secret != "" {
		t.Errorf("%+v, %v", e, err)
	}
	made, err := s.Create(t.Context(), in, control.Mutation{Actor: "test"})
	if err != nil || made.Secret == "" {
		t.Fatal(err)
	}
	if e, err := s.Rotate(t.Context(), "", "e", time.Hour, dry); err != nil || e.Secret != "" {
		t.Errorf("%+v, %v", e, err)
	}
	if err := s.Delete(t.Context(), "", "e", dry); err != nil {
		t.Error(err)
	}
	if err := s.Delete(t.Context(), "", "none", dry); gatehouse.CodeOf(err) != gatehouse.CodeNotFound {
		t.Error(err)
	}
	stale := made.Revision - 1
	for _, m := range []control.Mutation{{Actor: "test", Match: &stale}, {Actor: "test", Match: &stale, DryRun: true}} {
		if err := s.Delete(t.Context(), "", "e", m); gatehouse.CodeOf(err) != gatehouse.CodeStale {
			t.Error(err)
		}
	}
	if now, err := s.Endpoint(t.Context(), "", "e"); err != nil || now.Revision != made.Revision {
		t.Errorf("%+v, %v", now, err)
	}
}
