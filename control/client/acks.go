package client

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// tellLimit bounds one thing that is told to the control plane, with its
// repetitions.
const tellLimit = 30 * time.Second

// acks tells the control plane what became of updates. What has piled up while
// one answer is on its way goes as one.
type acks struct {
	client  *Client
	gateway string

	mu      sync.Mutex
	pending *gatehouse.Outcome          // guarded by mu; nil: everything is told
	refused map[gatehouse.TenantID]bool // guarded by mu; those of which the control plane was told
	news    chan struct{}
}

func newAcks(c *Client, gateway string) *acks {
	return &acks{client: c, gateway: gateway, refused: map[gatehouse.TenantID]bool{}, news: make(chan struct{}, 1)}
}

// maxNamed bounds the tenants that an answer names one by one. Of more than
// these only those are named that were refused before.
const maxNamed = 1000

// add queues an answer. It does not wait.
func (a *acks) add(o gatehouse.Outcome) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.queue(o)
	select {
	case a.news <- struct{}{}:
	default:
	}
}

// queue is called with mu held.
func (a *acks) queue(o gatehouse.Outcome) {
	if p := a.pending; p != nil {
		merged := gatehouse.Outcome{
			Revision: max(p.Revision, o.Revision), Applied: append(slices.Clone(p.Applied), o.Applied...),
			Removed: append(slices.Clone(p.Removed), o.Removed...), Refused: mergeRefusals(p.Refused, &o, false),
		}
		for _, r := range o.Refused { // the later word counts
			merged.Applied = slices.DeleteFunc(merged.Applied, func(id gatehouse.TenantID) bool { return id == r.Tenant })
		}
		o = merged
	}
	if len(o.Applied)+len(o.Removed) > maxNamed {
		untold := func(id gatehouse.TenantID) bool { return !a.refused[id] }
		o.Applied, o.Removed = slices.DeleteFunc(slices.Clone(o.Applied), untold), slices.DeleteFunc(slices.Clone(o.Removed), untold)
	}
	a.pending = &o
}

// mergeRefusals returns the refusals in force after an outcome. full says that
// it named every tenant.
func mergeRefusals(before []gatehouse.Refusal, o *gatehouse.Outcome, full bool) []gatehouse.Refusal {
	if full {
		return o.Refused
	}
	settled := map[gatehouse.TenantID]bool{}
	for _, ids := range [][]gatehouse.TenantID{o.Applied, o.Removed} {
		for _, id := range ids {
			settled[id] = true
		}
	}
	for _, r := range o.Refused {
		settled[r.Tenant] = true
	}
	out := slices.DeleteFunc(slices.Clone(before), func(r gatehouse.Refusal) bool { return settled[r.Tenant] })
	return append(out, o.Refused...)
}

func (a *acks) take() *gatehouse.Outcome {
	a.mu.Lock()
	defer a.mu.Unlock()
	o := a.pending
	a.pending = nil
	return o
}

// run sends answers until ctx ends. One that cannot be sent is kept, and goes
// with the next.
func (a *acks) run(ctx context.Context) {
	again := time.NewTimer(0)
	again.Stop()
	for attempt := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-a.news:
		case <-again.C:
		}
		o := a.take()
		if o == nil {
			continue
		}
		if o.Applied == nil {
			o.Applied = []gatehouse.TenantID{}
		}
		limit, cancel := context.WithTimeout(ctx, tellLimit)
		_, err := a.client.Do(limit, Call{Operation: ReportOutcome, Path: []string{a.gateway}, Body: o})
		cancel()
		a.mu.Lock()
		if err == nil {
			attempt = 0
			for _, id := range slices.Concat(o.Applied, o.Removed) {
				delete(a.refused, id)
			}
			for _, r := range o.Refused {
				a.refused[r.Tenant] = true
			}
		} else {
			later := a.pending
			a.pending = o
			if later != nil {
				a.queue(*later)
			}
			again.Reset(backOff(attempt, 500*time.Millisecond, 10*time.Second))
			attempt++
		}
		a.mu.Unlock()
	}
}
