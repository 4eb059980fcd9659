package client

import (
	"context"
	"sync"

	"github.com/gatehouse-gateway/gatehouse"
)

// Question is what a control plane asks a data plane: how a tenant's backends,
// hosts and key sets are there; the answer has its ID.
type Question struct {
	ID     string             `json:"id"`
	Tenant gatehouse.TenantID `json:"tenant"`
}

// answer is that to a question.
type answer struct {
	ID      string `json:"id"`
	Health  any    `json:"health,omitempty"`
	Problem string `json:"problem,omitempty"`
}

// maxAnswers bounds the questions that are answered at once. Those beyond are
// not: whoever asks waits for little.
const maxAnswers = 8

// answers answers questions while updates are followed.
type answers struct {
	client  *Client
	gateway string
	health  func(gatehouse.TenantID) (any, error) // nil: questions are passed over
	slots   chan struct{}
	running sync.WaitGroup
}

func newAnswers(c *FollowerConfig) *answers {
	once := *c.Client
	once.retries = 0
	return &answers{client: &once, gateway: c.Gateway, health: c.Health, slots: make(chan struct{}, maxAnswers)}
}

// give answers a question, and does not wait for that.
func (a *answers) give(ctx context.Context, q *Question) {
	if a.health == nil {
		return
	}
	select {
	case a.slots <- struct{}{}:
	default:
		return
	}
	a.running.Go(func() {
		defer func() { <-a.slots }()
		out := answer{ID: q.ID}
		var err error
		if out.Health, err = a.health(q.Tenant); err != nil {
			out.Health, out.Problem = nil, err.Error()
		}
		// An answer that does not arrive is missed there, by name.
		limit, cancel := context.WithTimeout(ctx, tellLimit)
		defer cancel()
		_, _ = a.client.Do(limit, Call{Operation: AnswerQuestion, Path: []string{a.gateway}, Body: out})
	})
}
