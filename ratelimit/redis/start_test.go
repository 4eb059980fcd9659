package redis

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/ratelimit"
	"github.com/gatehouse-gateway/gatehouse/ratelimit/ratelimittest"
)

// A store that nobody answers at the start is away before the first request,
// and its limits say what they make of one meanwhile.
func TestAwayAtStart(t *testing.T) {
	t.Parallel()
	server := ratelimittest.Single(t)
	server.Kill()
	told := make(chan bool, 8)
	g := open(t, Options{URL: server.URL, Wait: 200 * time.Millisecond, OnChange: func(_ int, away bool, _ error) { told <- away }}, gatehouse.StoreLease)
	await := func(want bool) {
		t.Helper()
		select {
		case away := <-told:
			if away != want {
				t.Fatalf("away: %v", away)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("nobody was told")
		}
	}
	await(true)

	day := gatehouse.Window{Unit: "day"}
	s := g.shared.Local("acme", 0).Stack(time.Now(), nil, ratelimit.Scope{Kind: ratelimit.PlanScope, Limits: gatehouse.Limits{Rules: []gatehouse.LimitRule{
		{Name: "shut", Quota: 9, Window: day, Away: gatehouse.AwayClosed},
		{Name: "open", Quota: 1, Window: day, Away: gatehouse.AwayOpen},
		{Name: "part", Quota: 9, Window: day},
		{Name: "here", Quota: 3, Window: day, Store: gatehouse.StoreLocal},
	}}})
	levels := func(cost int64) string {
		var got []string
		for _, lv := range s.Levels(nil, &ratelimit.Request{Now: time.Now(), Cost: cost}) {
			got = append(got, fmt.Sprintf("%s stale=%v refuses=%v unasked=%v", lv.Limit.Name, lv.Stale, lv.Refuses, lv.Unasked))
		}
		return strings.Join(got, "\n")
	}
	const one = `shut stale=true refuses=true unasked=true
open stale=true refuses=false unasked=false
part stale=true refuses=false unasked=false
here stale=false refuses=false unasked=false`
	if got := levels(1); got != one {
		t.Errorf("%s", got)
	}
	take := func(cost int64) ratelimit.Verdict {
		var tk ratelimit.Ticket
		defer func() { tk.Done(time.Now()) }()
		return s.Take(&ratelimit.Request{Now: time.Now(), Cost: cost}, &tk)
	}
	if v := take(1); !v.Unasked || v.Code() != gatehouse.CodeReducedCapacity || v.Binding.Name != "shut" {
		t.Errorf("%+v", v)
	}
	// What is used up is said before what is not known.
	if v := take(4); v.Unasked || v.Code() != gatehouse.CodeQuotaExceeded || v.Binding.Name != "here" {
		t.Errorf("%+v", v)
	}

	server.Start()
	await(false)
	const back = `shut stale=false refuses=false unasked=false
open stale=false refuses=false unasked=false
part stale=false refuses=false unasked=false
here stale=false refuses=false unasked=false`
	if got := levels(1); got != back {
		t.Errorf("%s", got)
	}
	if v := take(1); !v.Allowed || v.Away {
		t.Errorf("%+v", v)
	}
}
