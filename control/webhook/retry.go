package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
)

// kindRetry is the event of a delivery that is to be made at once.
const kindRetry = "webhook.retry"

// Retry has a message that an endpoint has not taken sent again now, with all
// attempts before it. CodeNotFound: there is no such delivery, perhaps because
// it was taken. CodeConflict: nothing is sent to the endpoint.
func (s *Sender) Retry(ctx context.Context, tenant, endpoint string, event uint64, m control.Mutation) (Delivery, error) {
	ref := (&Delivery{Endpoint: endpoint, Tenant: tenant, Event: event}).ref()
	if d, ok, err := s.retried(ctx, ref, m); ok || err != nil {
		return d, err
	}
	e, err := s.Endpoint(ctx, tenant, endpoint)
	if err != nil {
		return Delivery{}, err
	}
	if e.Disabled != "" {
		return Delivery{}, &gatehouse.Error{Code: gatehouse.CodeConflict, Message: "the webhook is disabled: enable it first"}
	}
	for attempt := 1; ; attempt++ {
		found, err := s.Journal.Get(ctx, ref)
		if errors.Is(err, journal.ErrNotFound) {
			return Delivery{}, &gatehouse.Error{Code: gatehouse.CodeNotFound, Message: "there is no such delivery; it may have been made"}
		}
		if err != nil {
			return Delivery{}, coded(err)
		}
		var d Delivery
		if err := json.Unmarshal(found.Body, &d); err != nil {
			return Delivery{}, fmt.Errorf("%s: %w", ref, err)
		}
		d.Attempts, d.Failed, d.Ended, d.Next = 0, false, time.Time{}, s.now()
		if m.DryRun {
			return d, nil
		}
		_, err = s.Journal.Commit(ctx, journal.Change{
			Actor: m.Actor, Why: m.Why, Kind: kindRetry, Tenant: tenant, Subject: endpoint, Idempotency: m.Idempotency,
			Expect: map[journal.Ref]int64{ref: int64(found.Revision)}, Puts: []journal.Put{put(ref, d)},
		})
		if stale(err) && attempt < 10 {
			continue // it was attempted meanwhile
		}
		if err != nil && !errors.Is(err, journal.ErrReplayed) {
			return Delivery{}, coded(err)
		}
		return d, nil
	}
}

// retried returns the delivery as the same request had it sent again before, if
// it did: it may have been made since, and be no more.
func (s *Sender) retried(ctx context.Context, ref journal.Ref, m control.Mutation) (d Delivery, ok bool, err error) {
	if m.Idempotency.Key == "" || m.DryRun {
		return d, false, nil
	}
	// A change that never comes to pass: keys are looked at before it is.
	e, err := s.Journal.Commit(ctx, journal.Change{
		Actor: m.Actor, Kind: kindRetry, Idempotency: m.Idempotency, Expect: map[journal.Ref]int64{{Kind: "replay", ID: "none"}: 1},
	})
	if errors.Is(err, journal.ErrNotFound) {
		return d, false, nil
	}
	if !errors.Is(err, journal.ErrReplayed) {
		return d, false, coded(err)
	}
	stored, ok := e.Resource(ref)
	if !ok {
		return d, false, fmt.Errorf("event %d holds no %s", e.Seq, ref)
	}
	return d, true, json.Unmarshal(stored.Body, &d)
}

// Endpoint returns one of a tenant, or of the platform.
func (s *Sender) Endpoint(ctx context.Context, tenant, id string) (Endpoint, error) {
	r, err := s.Journal.Get(ctx, endpointRef(tenant, id))
	if err != nil {
		return Endpoint{}, coded(err)
	}
	return shownOf(&r)
}
