package webhook

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
)

// state is the one resource of the senders: how far the journal has been told,
// and who sends.
type state struct {
	Told  uint64    `json:"told"`
	Owner string    `json:"owner,omitempty"`
	Until time.Time `json:"until,omitzero"`
}

var stateRef = journal.Ref{Kind: kindSender, ID: "sender"}

const (
	// lease bounds a round: no attempt begins that could last beyond it.
	lease = 3 * time.Minute
	// noting is the time at the end of a lease for writing down what came of it.
	noting = timeout
	// kept is how long a delivery that has failed for good can be sent again;
	// then it is forgotten.
	kept = 30 * 24 * time.Hour
	// batch bounds the attempts of one endpoint in a round, width the endpoints
	// at once, and events those that are read at once.
	batch  = 10
	width  = 32
	events = 500
	// idle is the longest time between two rounds.
	idle = time.Minute
)

// Run sends until ctx ends.
func (s *Sender) Run(ctx context.Context) error {
	defer s.client.CloseIdleConnections()
	wake := make(chan struct{}, 1)
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() { s.listen(ctx, wake) })
	for {
		next, err := s.Round(ctx)
		if ctx.Err() != nil {
			return nil
		}
		wait := min(idle, max(0, next.Sub(s.Now())))
		if err != nil {
			s.Log.Error("webhooks", "error", err)
			wait = 5 * time.Second
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// listen wakes Run when something is to be told.
func (s *Sender) listen(ctx context.Context, wake chan<- struct{}) {
	ring := func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
	for ctx.Err() == nil {
		head, err := s.Journal.Head(ctx)
		if err == nil {
			ring() // for what came while nobody listened
			for e, err := range s.Journal.Watch(ctx, head.Seq) {
				if err != nil {
					break
				}
				if slices.Contains(s.Kinds, e.Kind) || e.Kind == kindRetry {
					ring()
				}
			}
		}
		select { // the store is away, or ctx has ended
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// round is one pass.
type round struct {
	*Sender
	now       time.Time
	state     state
	revision  int64
	endpoints map[journal.Ref]*stored
	added     []Delivery // of new events
	due       []Delivery
	dropped   []journal.Ref
	next      time.Time
}

type stored struct {
	Endpoint
	made time.Time
}

// Round tells what is due, and returns when something is next.
func (s *Sender) Round(ctx context.Context) (next time.Time, err error) {
	r := &round{Sender: s, now: s.now(), endpoints: map[journal.Ref]*stored{}, next: s.now().Add(idle)}
	if err := r.read(ctx); err != nil {
		return r.next, err
	}
	if r.state.Owner != "" && r.state.Owner != s.owner && r.state.Until.After(r.now) {
		return r.state.Until, nil // another sends
	}
	if err := r.collect(ctx); err != nil {
		return r.next, err
	}
	if len(r.added) == 0 && len(r.due) == 0 && len(r.dropped) == 0 {
		return r.next, nil
	}
	if err := r.claim(ctx); err != nil {
		if stale(err) {
			return r.now.Add(time.Second), nil // another was faster
		}
		return r.next, fmt.Errorf("claim webhooks: %w", err)
	}
	outcomes := r.send(ctx)
	// What was sent is noted, and the lease given back, even if ctx has ended.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	if err := r.note(ctx, outcomes); err != nil {
		return r.next, fmt.Errorf("note webhooks: %w", err)
	}
	return r.now, nil // there may be more
}

// read gets the state and the endpoints.
func (r *round) read(ctx context.Context) error {
	found, err := r.Journal.Get(ctx, stateRef)
	if err != nil && !errors.Is(err, journal.ErrNotFound) {
		return err
	}
	if err == nil {
		r.revision = int64(found.Revision)
		if err := json.Unmarshal(found.Body, &r.state); err != nil {
			return err
		}
	}
	for e, err := range r.Journal.All(ctx, kindEndpoint) {
		if err != nil {
			return err
		}
		v := &stored{made: e.Created}
		if err := json.Unmarshal(e.Body, &v.Endpoint); err != nil {
			return fmt.Errorf("%s: %w", e.Ref, err)
		}
		r.endpoints[e.Ref] = v
	}
	return nil
}

// collect finds the deliveries that are due and makes those of new events.
func (r *round) collect(ctx context.Context) error {
	for v, err := range r.Journal.All(ctx, kindDelivery) {
		if err != nil {
			return err
		}
		var d Delivery
		if err := json.Unmarshal(v.Body, &d); err != nil {
			return fmt.Errorf("%s: %w", v.Ref, err)
		}
		e := r.endpoints[endpointRef(d.Tenant, d.Endpoint)]
		switch {
		case e == nil:
			r.dropped = append(r.dropped, v.Ref)
		case d.Failed && !r.now.Before(cmp.Or(d.Ended, v.Updated).Add(kept)):
			r.dropped = append(r.dropped, v.Ref)
		case d.Failed || e.Disabled != "":
		case d.Next.After(r.now):
			if d.Next.Before(r.next) {
				r.next = d.Next
			}
		default:
			r.due = append(r.due, d)
		}
	}
	after := max(r.state.Told, r.scanned)
	head, err := r.Journal.Head(ctx)
	if err != nil {
		return err
	}
	found, err := r.Journal.Events(ctx, journal.Filter{Kinds: r.Kinds, After: after}, events)
	if err != nil {
		return err
	}
	for i := range found {
		r.messages(&found[i])
		r.state.Told = found[i].Seq
	}
	switch {
	case len(found) < events:
		r.scanned = max(r.scanned, head.Seq)
	default:
		r.scanned, r.next = r.state.Told, r.now // there are more
	}
	return nil
}

func (r *round) messages(e *journal.Event) {
	m, ok := r.Read(e)
	if !ok {
		return
	}
	for _, to := range r.endpoints {
		if to.wants(&m) && !e.At.Before(to.made) {
			r.added = append(r.added, Delivery{Endpoint: to.ID, Tenant: to.Tenant, Event: e.Seq, ID: "msg_" + hex.EncodeToString(e.Hash[:12]), Kind: m.Kind, Next: r.now})
		}
	}
}

// claim says what is to be sent, and takes the lease, in one change.
func (r *round) claim(ctx context.Context) error {
	r.state.Owner, r.state.Until = r.owner, r.now.Add(lease)
	c := journal.Change{Actor: Actor, Kind: "webhook.claim", Expect: map[journal.Ref]int64{stateRef: r.revision}, Deletes: r.dropped}
	c.Puts = append(c.Puts, put(stateRef, r.state))
	slices.SortFunc(r.added, order)
	for _, d := range r.added {
		c.Puts = append(c.Puts, put(d.ref(), d))
		c.Expect[d.ref()] = journal.Absent
	}
	done, err := r.Journal.Commit(ctx, c)
	if err != nil {
		return err
	}
	r.revision = int64(done.Seq)
	r.due = append(r.due, r.added...)
	slices.SortFunc(r.due, order)
	return nil
}

func order(a, b Delivery) int {
	return cmp.Or(cmp.Compare(a.Event, b.Event), cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Endpoint, b.Endpoint))
}

func put(ref journal.Ref, v any) journal.Put {
	body, err := json.Marshal(v)
	if err != nil {
		panic("webhook: " + err.Error()) // our types always encode
	}
	return journal.Put{Ref: ref, Body: body}
}

// send attempts what is due: endpoints beside one another, so that one that
// hangs does not hold up the others, and the deliveries of one in order until
// one fails. What the lease is too short for is left to the next round, and so
// is what follows a failure: an endpoint that is away is asked once a round.
func (r *round) send(ctx context.Context) []outcome {
	byEndpoint := map[journal.Ref][]Delivery{}
	for _, d := range r.due {
		ref := endpointRef(d.Tenant, d.Endpoint)
		if len(byEndpoint[ref]) < batch {
			byEndpoint[ref] = append(byEndpoint[ref], d)
		}
	}
	var mu sync.Mutex
	var outcomes []outcome // guarded by mu
	var all sync.WaitGroup
	places := make(chan struct{}, width)
	for ref, deliveries := range byEndpoint {
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			for _, d := range deliveries {
				e, err := r.Journal.Event(ctx, d.Event)
				if err != nil || ctx.Err() != nil || r.now.Add(lease-noting-timeout).Before(r.Sender.now()) {
					return // the next round does it
				}
				m, ok := r.Read(&e)
				if !ok {
					return
				}
				o := r.attempt(ctx, &r.endpoints[ref].Endpoint, d, &m)
				if ctx.Err() != nil {
					return // what failed because we end is no failure
				}
				mu.Lock()
				outcomes = append(outcomes, o)
				mu.Unlock()
				if !o.done {
					return
				}
			}
		})
	}
	all.Wait()
	return outcomes
}

// note writes down what came of the attempts, and gives the lease back.
func (r *round) note(ctx context.Context, outcomes []outcome) error {
	slices.SortFunc(outcomes, func(a, b outcome) int { return order(a.delivery, b.delivery) })
	r.state.Owner, r.state.Until = "", time.Time{}
	c := journal.Change{Actor: Actor, Kind: "webhook.note", Expect: map[journal.Ref]int64{stateRef: r.revision}, Puts: []journal.Put{put(stateRef, r.state)}}
	for i := range outcomes {
		d := &outcomes[i].delivery
		if outcomes[i].done {
			c.Deletes = append(c.Deletes, d.ref())
			continue
		}
		c.Puts = append(c.Puts, put(d.ref(), d))
	}
	if _, err := r.Journal.Commit(ctx, c); err != nil {
		return err
	}
	for i := range outcomes {
		if d := &outcomes[i].delivery; outcomes[i].gone {
			m := control.Mutation{Actor: Actor, Why: "it answered 410 Gone"}
			if _, err := r.Enable(ctx, d.Tenant, d.Endpoint, "it answered 410 Gone", m); err != nil {
				return err
			}
		}
	}
	return nil
}
