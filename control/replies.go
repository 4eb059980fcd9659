package control

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

const (
	// answerLimit is how long data planes have to answer.
	answerLimit = 2 * time.Second
	// wayLimit is how much longer another control plane has, which asks those
	// that follow it.
	wayLimit = 500 * time.Millisecond
	// goneFor is how long a data plane is asked about that follows no more.
	goneFor = 24 * time.Hour
)

// Health asks every data plane how a tenant is there, and returns what each
// says by the order of their names, within three seconds: those that follow
// this control plane, and through the store those that follow another one of
// it. Those of known, and those that followed within a day, are named too.
func (g *Gateways) Health(ctx context.Context, tenant gatehouse.TenantID, known ...string) []GatewayHealth {
	all := g.replies(ctx, TopicHealth, tenant, known)
	out := make([]GatewayHealth, len(all))
	for i := range all {
		out[i] = GatewayHealth{all[i].Gateway, all[i].Problem, LiveHealth{Status: unknown, Backends: []BackendHealth{}, Domains: []DomainHealth{}}}
		if all[i].Health != nil {
			out[i].LiveHealth = *all[i].Health
		}
	}
	return out
}

// Metrics asks for live figures of a tenant, as Health asks.
func (g *Gateways) Metrics(ctx context.Context, tenant gatehouse.TenantID, known ...string) []GatewayMetrics {
	all := g.replies(ctx, TopicMetrics, tenant, known)
	out := make([]GatewayMetrics, len(all))
	for i := range all {
		out[i] = GatewayMetrics{all[i].Gateway, all[i].Problem, all[i].Metrics}
	}
	return out
}

// localAt begins the names of data planes in the processes of other control
// planes.
const localAt = LocalGateway + "@"

// replies are what all data planes say, by name.
func (g *Gateways) replies(ctx context.Context, topic Topic, tenant gatehouse.TenantID, known []string) []reply {
	away := g.away(ctx, elsewhere{topic, tenant})
	limit, stop := context.WithTimeout(ctx, answerLimit)
	defer stop()
	all := g.here(limit, topic, tenant)
	there, whole := heard[reply](ctx, away)
	all = append(all, there...)
	// One that goes from here to there meanwhile may be heard of twice; the
	// answer comes first.
	slices.SortStableFunc(all, func(a, b reply) int {
		return cmp.Or(strings.Compare(a.Gateway, b.Gateway), strings.Compare(a.Problem, b.Problem))
	})
	all = slices.CompactFunc(all, func(a, b reply) bool {
		return a.Gateway == b.Gateway && !strings.HasPrefix(a.Gateway, localAt) // of those each process has one
	})
	why := gone
	if !whole {
		why = unasked
	}
	for _, name := range append(g.gone(), known...) {
		at, found := slices.BinarySearchFunc(all, name, func(r reply, name string) int { return strings.Compare(r.Gateway, name) })
		if !found {
			all = slices.Insert(all, at, reply{Gateway: name, Answer: Answer{Problem: why}})
		}
	}
	return all
}

// tooLong is why what a data plane says is not known.
const tooLong = "what it says is too long to be told by another control plane: ask the one that it follows"

func (r reply) shorter() reply {
	return reply{Gateway: r.Gateway, Answer: Answer{ID: r.ID, Problem: tooLong}}
}

// gone are those that followed this control plane, and do not now.
func (g *Gateways) gone() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []string
	for id, s := range g.all {
		if !s.Connected && g.now().Sub(s.Since) < goneFor {
			out = append(out, id)
		}
	}
	return out
}
