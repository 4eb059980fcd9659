package control

import (
	"context"
	"crypto/rand"
	"sync"

	"github.com/gatehouse-gateway/gatehouse"
)

// Topic is what a question is about.
type Topic string

// Topics of questions.
const (
	// TopicHealth asks how a tenant's backends, hosts and key sets are.
	TopicHealth Topic = "health"
	// TopicMetrics asks for live figures of a tenant.
	TopicMetrics Topic = "metrics"
)

// Question is what a data plane is asked about a tenant. It goes out between
// updates; the answer has its ID.
type Question struct {
	ID     string             `json:"id"`
	Tenant gatehouse.TenantID `json:"tenant"`
	// Topic is what is asked for.
	Topic Topic `json:"topic"`
}

// Answer is that to a question.
type Answer struct {
	// ID is the question's.
	ID string `json:"id"`
	// Health and Metrics are what was asked for, one of them. Both are absent
	// where Problem says why it is not known.
	Health  *LiveHealth  `json:"health,omitempty"`
	Metrics *LiveMetrics `json:"metrics,omitempty"`
	Problem string       `json:"problem,omitempty"`
}

// answers reports whether a is to that topic, or says why not.
func (a *Answer) answers(topic Topic) bool {
	return a.Problem != "" || topic == TopicHealth && a.Health != nil || topic == TopicMetrics && a.Metrics != nil
}

// maxAsked bounds the questions that wait to be sent to one data plane.
const maxAsked = 64

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

// maxLocal bounds the questions that the data plane of this process answers at
// once.
const maxLocal = 8

// Local answers the questions to the data plane of this process, until ctx
// ends. answer is called by several goroutines; what it leaves out of ID is
// filled in.
func (g *Gateways) Local(ctx context.Context, answer func(context.Context, *Question) Answer) {
	questions, deaf := g.Questions(LocalGateway)
	defer deaf()
	var running sync.WaitGroup
	defer running.Wait()
	for range maxLocal {
		running.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case q := <-questions:
					a := answer(ctx, &q)
					a.ID = q.ID
					_ = g.Answer(LocalGateway, a) // who asked may have gone
				}
			}
		})
	}
}

// reply is what one data plane says.
type reply struct {
	Gateway string `json:"gateway"`
	Answer
}

// Why a data plane has not answered.
const (
	tooSlow = "it has not answered in time"
	other   = "its release does not answer this"
	gone    = "it does not follow the control plane now"
	unasked = "it does not follow this control plane, and another one has not answered in time"
)

// here asks the data planes that follow this control plane, until ctx ends.
func (g *Gateways) here(ctx context.Context, topic Topic, tenant gatehouse.TenantID) []reply {
	var all []reply
	for gateway, wanted := range g.ask(topic, tenant) {
		defer wanted.forget()
		r := reply{Gateway: gateway, Answer: Answer{Problem: tooSlow}}
		select {
		case r.Answer = <-wanted.answer:
		case <-ctx.Done():
			select {
			case r.Answer = <-wanted.answer: // it came before
			default:
			}
		}
		if !r.answers(topic) {
			r.Answer = Answer{Problem: other}
		}
		all = append(all, r)
	}
	return all
}

// wanted is an answer that somebody waits for.
type wanted struct {
	answer chan Answer
	forget func()
}

// ask puts a question to every data plane that follows; one with too many
// before it is asked nothing, and so does not answer.
func (g *Gateways) ask(topic Topic, tenant gatehouse.TenantID) map[string]wanted {
	a := &g.asked
	a.mu.Lock()
	defer a.mu.Unlock()
	out := map[string]wanted{}
	for gateway, to := range a.to {
		q := Question{ID: rand.Text(), Tenant: tenant, Topic: topic}
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
