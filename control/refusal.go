package control

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"golang.org/x/time/rate"
)

// Failed attempts of an address: so many at once, and one each failureEvery.
const (
	failureBurst = 10
	failureEvery = 6 * time.Second
	maxFailures  = 10_000
)

// throttle refuses addresses that failed too often.
type throttle struct {
	mu       sync.Mutex
	failures map[string]*rate.Limiter // by place; guarded by mu
}

// place is what is counted together: an IPv4 address, or the /64 that one
// holder of IPv6 addresses has at least.
func place(address string) string {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return address
	}
	if a = a.Unmap().WithZone(""); a.Is4() {
		return a.String()
	}
	const subnet = 64
	return netip.PrefixFrom(a, subnet).Masked().String()
}

func (t *throttle) closed(address string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.failures[place(address)]
	return l != nil && l.Tokens() < 1
}

func (t *throttle) fail(address string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := place(address)
	l := t.failures[at]
	if l == nil {
		if len(t.failures) >= maxFailures {
			maps.DeleteFunc(t.failures, func(_ string, old *rate.Limiter) bool { return old.Tokens() >= failureBurst }) // as good as unknown
		}
		if len(t.failures) >= maxFailures {
			return // an attack from so many addresses is not held by this
		}
		l = rate.NewLimiter(rate.Every(failureEvery), failureBurst)
		t.failures[at] = l
	}
	l.Allow()
}

// Refusals that are journaled at once: so many of a caller, and one each
// refusalEvery. The others are counted, and journaled together each minute.
const (
	refusalBurst = 20
	refusalEvery = 10 * time.Second
	// maxRefusals bounds the different ones that are counted apart.
	maxRefusals = 1000
)

// refusals keeps those that are not journaled yet.
type refusals struct {
	mu      sync.Mutex
	callers map[string]*rate.Limiter // by actor; guarded by mu
	held    map[refusal]int          // guarded by mu
	logins  int                      // failed ones; guarded by mu
}

type refusal struct{ actor, operation string }

func (r *refusals) failed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.logins++
}

// hold reports whether a refusal is to be journaled later, and keeps it then.
func (r *refusals) hold(one refusal) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.callers[one.actor]
	if l == nil { // there are as many as tokens
		l = rate.NewLimiter(rate.Every(refusalEvery), refusalBurst)
		r.callers[one.actor] = l
	}
	if l.Allow() {
		return false
	}
	if _, known := r.held[one]; !known && len(r.held) >= maxRefusals {
		one = refusal{"others", "others"}
	}
	r.held[one]++
	return true
}

// take empties it.
func (r *refusals) take() (held map[refusal]int, logins int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	held, logins = r.held, r.logins
	r.held, r.logins = map[refusal]int{}, 0
	maps.DeleteFunc(r.callers, func(_ string, l *rate.Limiter) bool { return l.Tokens() >= refusalBurst })
	return held, logins
}

// Kinds of events of refusals.
const (
	kindRefused = "access.refused"
	kindFailed  = "access.failed"
)

// refuse journals a refusal, or counts it where there are too many.
func (o *Operators) refuse(ctx context.Context, a *Access, reason string) error {
	if o.refusals.hold(refusal{a.Caller.Actor(), a.Operation}) {
		return nil
	}
	_, err := o.plane.journal.Commit(ctx, journal.Change{
		Actor: a.Caller.Actor(), Kind: kindRefused, Tenant: tenantOfRefusal(a), Subject: a.Operation, Why: reason,
	})
	return coded(err)
}

// settle journals what was held back.
func (o *Operators) settle(ctx context.Context) error {
	held, logins := o.refusals.take()
	commit := func(c journal.Change) error {
		_, err := o.plane.journal.Commit(ctx, c)
		return coded(err)
	}
	if logins > 0 {
		if err := commit(journal.Change{Actor: "anonymous", Kind: kindFailed, Why: fmt.Sprintf("%d requests with a token that is not accepted", logins)}); err != nil {
			return err
		}
	}
	byName := func(a, b refusal) int {
		return cmp.Or(strings.Compare(a.actor, b.actor), strings.Compare(a.operation, b.operation))
	}
	for _, one := range slices.SortedFunc(maps.Keys(held), byName) {
		err := commit(journal.Change{Actor: one.actor, Kind: kindRefused, Subject: one.operation, Why: fmt.Sprintf("%d more within a minute", held[one])})
		if err != nil {
			return err
		}
	}
	return nil
}

// tenantOfRefusal is in whose audit trail a refusal shows: the tenant's that
// was asked for, unless it may be a made-up name.
func tenantOfRefusal(a *Access) string {
	if slices.Contains(a.Caller.Tenants, a.Tenant) {
		return string(a.Tenant)
	}
	return ""
}
