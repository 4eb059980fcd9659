package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// MaxPayload bounds a message, in bytes, as the specification recommends.
const MaxPayload = 20_000

// payload is the body of a message: the same at each attempt. Data that is too
// large is left out; whoever wants it asks the API.
func payload(m *Message) ([]byte, error) {
	type form struct {
		Type      string          `json:"type"`
		Timestamp time.Time       `json:"timestamp"`
		Data      json.RawMessage `json:"data"`
	}
	body, err := json.Marshal(form{m.Kind, m.At, m.Data})
	if err != nil {
		return nil, fmt.Errorf("message %s: %w", m.Kind, err)
	}
	if len(body) >= MaxPayload {
		data, err := json.Marshal(map[string]any{"tenant": m.Tenant, "too_large": true})
		if err != nil {
			return nil, err
		}
		return json.Marshal(form{m.Kind, m.At, data})
	}
	return body, nil
}

func request(ctx context.Context, to string, body []byte) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("webhook: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	return r, nil
}

// drain reads what a kept connection needs read, within bounds.
func drain(body io.Reader) { _, _ = io.Copy(io.Discard, io.LimitReader(body, 64<<10)) } // nothing depends on it

// cause is an error without the URL, which may hold a token.
func cause(err error) string {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err.Error()
	}
	return err.Error()
}
