package control

import (
	"context"
	"crypto/rand"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// Question asks a data plane how a tenant's backends, hosts and key sets are
// there. It goes out between updates; the answer has its ID.
type Question struct {
	ID     string             `json:"id"`
	Tenant gatehouse.TenantID `json:"tenant"`
}

// Answer is that to a question.
type Answer struct {
	// ID is the question's.
	ID string `json:"id"`
	// Health is absent where Problem says why it is not known.
	Health  *LiveHealth `json:"health,omitempty"`
	Problem string      `json:"problem,omitempty"`
}

const (
	// answerLimit is how long data planes have to answer.
	answerLimit = 2 * time.Second
	// maxAsked bounds the questions that wait to be sent to one data plane.
	maxAsked = 64
)

// asked are the questions under way. The zero value has none.
type asked struct {
	mu      sync.Mutex
	to      map[string]chan Question // by the gateway; guarded by mu
	waiting map[string]chan Answer   // by gateway and id, room for one; guarded by mu
}

// Questions are those for a data plane that follows. A later call for the same
// one gets them in its place. What it returns second ends it.
func (g *Gateways) Questions(gateway string) (<-chan Question, func()) {
	a := &g.asked
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.to == nil {
		a.to, a.waiting = map[string]chan Question{}, map[string]chan Answer{}
	}
	mine := make(chan Question, maxAsked)
	a.to[gateway] = mine
	return mine, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.to[gateway] == mine {
			delete(a.to, gateway)
		}
	}
}

// Answer takes a data plane's answer. One that nobody waits for is
// CodeNotFound.
func (g *Gateways) Answer(gateway string, answer Answer) error {
	a := &g.asked
	a.mu.Lock()
	defer a.mu.Unlock()
	key := gateway + "\n" + answer.ID
	wanted := a.waiting[key]
	if wanted == nil {
		return notFound("question")
	}
	delete(a.waiting, key)
	wanted <- answer
	return nil
}

// Health asks every data plane that follows how a tenant is there, and returns
// what each says by the order of their names, after at most two seconds. Those
// of known, and those that followed within a day, are named too: they may
// follow another control plane of the store.
func (g *Gateways) Health(ctx context.Context, tenant gatehouse.TenantID, known ...string) []GatewayHealth {
	ctx, stop := context.WithTimeout(ctx, answerLimit)
	defer stop()
	var all []GatewayHealth
	var answers []chan Answer
	for gateway, wanted := range g.ask(tenant) {
		all, answers = append(all, unheard(gateway, "it has not answered in time")), append(answers, wanted.answer)
		defer wanted.forget()
	}
	for i := range all {
		select {
		case <-ctx.Done():
			select {
			case answer := <-answers[i]: // it came before
				all[i].take(&answer)
			default:
			}
		case answer := <-answers[i]:
			all[i].take(&answer)
		}
	}
	for _, name := range append(g.gone(), known...) {
		if !slices.ContainsFunc(all, func(h GatewayHealth) bool { return h.Gateway == name }) {
			all = append(all, unheard(name, "it does not follow this control plane now"))
		}
	}
	slices.SortFunc(all, func(a, b GatewayHealth) int { return strings.Compare(a.Gateway, b.Gateway) })
	return all
}

// goneFor is how long a data plane is asked about that follows no more.
const goneFor = 24 * time.Hour

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

func unheard(gateway, why string) GatewayHealth {
	return GatewayHealth{Gateway: gateway, Problem: why, LiveHealth: LiveHealth{Status: unknown, Backends: []BackendHealth{}, Domains: []DomainHealth{}}}
}

func (h *GatewayHealth) take(a *Answer) {
	h.Problem = a.Problem
	if a.Health != nil {
		h.LiveHealth = *a.Health
	}
}

// wanted is an answer that somebody waits for.
type wanted struct {
	answer chan Answer
	forget func()
}

// ask puts a question to every data plane that follows; one with too many
// before it is asked nothing, and so does not answer.
func (g *Gateways) ask(tenant gatehouse.TenantID) map[string]wanted {
	a := &g.asked
	a.mu.Lock()
	defer a.mu.Unlock()
	out := map[string]wanted{}
	for gateway, to := range a.to {
		q := Question{ID: rand.Text(), Tenant: tenant}
		key := gateway + "\n" + q.ID
		answer := make(chan Answer, 1)
		select {
		case to <- q:
			a.waiting[key] = answer
		default:
		}
		out[gateway] = wanted{answer, func() {
			a.mu.Lock()
			defer a.mu.Unlock()
			delete(a.waiting, key)
		}}
	}
	return out
}
