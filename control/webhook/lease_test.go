package webhook_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse/control/webhook"
)

// A round ends before its lease does, however slow the endpoints are: whoever
// sends next does not send the same again.
func TestSlowEndpoints(t *testing.T) {
	t.Parallel()
	o := open(t, stores["SQLite"](t))
	s := o.sender(o.journal)
	for i := range 100 {
		o.endpoint(s, webhook.NewEndpoint{ID: fmt.Sprintf("e%02d", i)})
	}
	o.happen("invoice.paid", "a", "1", "")
	o.answer = func(_ int, w http.ResponseWriter) {
		o.pass(9 * time.Second)
		w.WriteHeader(http.StatusNoContent)
	}
	begin := o.clock()
	if _, err := s.Round(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Attempts go on beside one another, but their times add up here: 18 end
	// before the last may begin, and 32 are under way then.
	first := len(o.requests())
	if latest := begin.Add(160*time.Second + 33*9*time.Second); o.clock().After(latest) {
		t.Errorf("a round lasted %s", o.clock().Sub(begin))
	}
	if first == 0 || first > 18+32 {
		t.Errorf("a round made %d of 100 attempts", first)
	}
	o.rounds(s)
	seen := map[string]int{}
	for _, r := range o.requests() {
		seen[r.path]++
	}
	if len(seen) != 100 || len(o.requests()) != 100 {
		t.Errorf("%d endpoints got %d messages, want each one", len(seen), len(o.requests()))
	}
}

// An endpoint that fails is not asked again for the rest of a round.
func TestFirstFailureEndsTheRound(t *testing.T) {
	t.Parallel()
	o := open(t, stores["SQLite"](t))
	s := o.sender(o.journal)
	o.endpoint(s, webhook.NewEndpoint{ID: "e"})
	for i := range 5 {
		o.happen("invoice.paid", "a", fmt.Sprint(i), "")
	}
	o.answer = func(_ int, w http.ResponseWriter) { w.WriteHeader(http.StatusInternalServerError) }
	if _, err := s.Round(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := len(o.requests()); got != 1 {
		t.Errorf("%d attempts in one round, want 1", got)
	}
}

// What failed for good can be sent again for 30 days, and is forgotten then.
func TestFailedAreForgotten(t *testing.T) {
	t.Parallel()
	o := open(t, stores["SQLite"](t))
	s := o.sender(o.journal)
	o.endpoint(s, webhook.NewEndpoint{ID: "e"})
	o.happen("invoice.paid", "a", "1", "")
	o.answer = func(_ int, w http.ResponseWriter) { w.WriteHeader(http.StatusInternalServerError) }
	for range 10 {
		if next := o.rounds(s); next.After(o.clock()) {
			o.pass(30 * time.Hour)
		}
	}
	all := o.deliveries(s, "e")
	if len(all) != 1 || !all[0].Failed || all[0].Ended.IsZero() {
		t.Fatalf("%+v, want one that has failed", all)
	}
	o.pass(all[0].Ended.Add(30*24*time.Hour - time.Second).Sub(o.clock()))
	o.rounds(s)
	if got := len(o.deliveries(s, "e")); got != 1 {
		t.Errorf("%d deliveries a second before their time", got)
	}
	o.pass(time.Second)
	o.rounds(s)
	if got := len(o.deliveries(s, "e")); got != 0 {
		t.Errorf("%d deliveries after their time", got)
	}
}
