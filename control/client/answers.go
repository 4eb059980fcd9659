package client

import (
	"context"
	"sync"

	"github.com/gatehouse-gateway/gatehouse"
)

// Question is what a control plane asks a data plane about a tenant; the
// answer has its ID.
type Question struct {
	ID     string             `json:"id"`
	Tenant gatehouse.TenantID `json:"tenant"`
	// Topic is what is asked for: a key of FollowerConfig.Tell.
	Topic string `json:"topic"`
}

// maxAnswers bounds the questions that are answered at once. Those beyond are
// not: whoever asks waits for little.
const maxAnswers = 8

// answers answers questions while updates are followed.
type answers struct {
	client  *Client
	gateway string
	tell    map[string]func(gatehouse.TenantID) (any, error) // by topic; others are passed over
	slots   chan struct{}
	running sync.WaitGroup
}

func newAnswers(c *FollowerConfig) *answers {
	once := *c.Client
	once.retries = 0
	return &answers{client: &once, gateway: c.Gateway, tell: c.Tell, slots: make(chan struct{}, maxAnswers)}
}

// give answers a question, and does not wait for that.
func (a *answers) give(ctx context.Context, q *Question) {
	topic := q.Topic
	if topic == "" { // of a release that asked for nothing else
		topic = "health"
	}
	tell := a.tell[topic]
	if tell == nil {
		return
	}
	select {
	case a.slots <- struct{}{}:
	default:
		return
	}
	a.running.Go(func() {
		defer func() { <-a.slots }()
		out := map[string]any{"id": q.ID}
		if told, err := tell(q.Tenant); err != nil {
			out["problem"] = err.Error()
		} else {
			out[topic] = told
		}
		// An answer that does not arrive is missed there, by name.
		limit, cancel := context.WithTimeout(ctx, tellLimit)
		defer cancel()
		_, _ = a.client.Do(limit, Call{Operation: AnswerQuestion, Path: []string{a.gateway}, Body: out})
	})
}
