package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/gatehouse-gateway/gatehouse/control/journal"
)

// Delivery is a message on its way to an endpoint. One that was made is gone.
type Delivery struct {
	// Endpoint is its id, and Tenant whose it is; empty for the platform's.
	Endpoint string `json:"endpoint"`
	Tenant   string `json:"tenant,omitempty"`
	// Event is its number in the journal and Kind what it is; ID is the webhook-
	// id.
	Event uint64 `json:"event"`
	ID    string `json:"id"`
	Kind  string `json:"kind"`
	// Attempts were made; Next is when another is due. Failed says that there
	// will be none.
	Attempts int       `json:"attempts"`
	Next     time.Time `json:"next,omitzero"`
	Failed   bool      `json:"failed,omitempty"`
	// Ended is when it failed for good. It is kept for 30 days from then.
	Ended time.Time `json:"ended,omitzero"`
	// Status and Reason are of the last attempt.
	Status int    `json:"status,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// delays are the times before each attempt, after the one before it.
func delays() []time.Duration {
	return []time.Duration{
		0, 5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
	}
}

// longestWait bounds what Retry-After can ask for.
const longestWait = 24 * time.Hour

func (d *Delivery) ref() journal.Ref {
	return journal.Ref{Kind: kindDelivery, Tenant: d.Tenant, ID: fmt.Sprintf("%s/%016d", d.Endpoint, d.Event)}
}

// outcome is what came of one attempt.
type outcome struct {
	delivery Delivery
	// done: it was taken. gone: the endpoint wants no more.
	done, gone bool
}

// attempt sends a message once.
func (s *Sender) attempt(ctx context.Context, e *Endpoint, d Delivery, m *Message) outcome {
	now := s.now()
	d.Attempts++
	d.Status, d.Reason = 0, ""
	after, err := s.post(ctx, e, &d, m)
	switch {
	case err == nil:
		return outcome{delivery: d, done: true}
	case d.Status == http.StatusGone:
		d.Failed, d.Ended, d.Next, d.Reason = true, now, time.Time{}, err.Error()
		return outcome{delivery: d, gone: true}
	}
	d.Reason = err.Error()
	waits := delays()
	if d.Attempts >= len(waits) {
		d.Failed, d.Ended, d.Next = true, now, time.Time{}
		return outcome{delivery: d}
	}
	wait := waits[d.Attempts]
	wait += time.Duration(rand.Int64N(int64(wait)/10 + 1)) // so that many do not come at once
	d.Next = now.Add(max(wait, min(after, longestWait)))
	return outcome{delivery: d}
}

// post makes the request. An error is a failure, and after what Retry-After
// asked for.
func (s *Sender) post(ctx context.Context, e *Endpoint, d *Delivery, m *Message) (after time.Duration, err error) {
	body, err := payload(m)
	if err != nil {
		return 0, err
	}
	r, err := request(ctx, e.URL, body)
	if err != nil {
		return 0, err
	}
	r.Header.Set("User-Agent", s.Agent)
	if err := s.sign(r.Header, e, d.ID, s.now(), body); err != nil {
		return 0, err
	}
	answer, err := s.client.Do(r)
	if err != nil {
		return 0, errors.New("no answer: " + cause(err))
	}
	defer answer.Body.Close()
	drain(answer.Body)
	d.Status = answer.StatusCode
	if answer.StatusCode/100 == 2 {
		return 0, nil
	}
	return retryAfter(answer.Header.Get("Retry-After"), s.now()), fmt.Errorf("the answer was %d", answer.StatusCode)
}

// retryAfter reads seconds or a date (RFC 9110, 10.2.3); 0 for neither.
func retryAfter(field string, now time.Time) time.Duration {
	if n, err := strconv.Atoi(field); err == nil && n > 0 && n <= int(longestWait/time.Second)*365 {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(field); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

// Deliveries returns what an endpoint has not taken yet, or never will.
func (s *Sender) Deliveries(ctx context.Context, tenant, endpoint string) ([]Delivery, error) {
	out := []Delivery{}
	for q := (journal.Query{Kind: kindDelivery, Tenant: &tenant, Prefix: endpoint + "/", Limit: 1000}); ; {
		page, err := s.Journal.List(ctx, q)
		if err != nil {
			return nil, coded(err)
		}
		for i := range page.Items {
			var d Delivery
			if err := json.Unmarshal(page.Items[i].Body, &d); err != nil {
				return nil, fmt.Errorf("%s: %w", page.Items[i].Ref, err)
			}
			out = append(out, d)
		}
		if q.After = page.Next; q.After == "" {
			return out, nil
		}
	}
}
