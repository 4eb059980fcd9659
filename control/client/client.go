// Package client speaks to a control plane over HTTP: Client makes calls of
// its API, and Follower keeps a data plane up to date.
//
// What goes wrong is a *gatehouse.Error with the code that the control plane
// gave; where it gave none, because it did not answer, the code is
// CodeUnavailable. Faults of a body are in the error's tree as
// gatehouse.Faults.
package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// Config says which control plane is meant, and who asks.
type Config struct {
	// Server is the control plane's URL, without a path.
	Server string
	// Token is an operator token, or a data plane's.
	Token string
	// HTTP makes the requests; nil: a client of its own. It must not have a
	// Timeout where updates are followed.
	HTTP *http.Client
	// Agent is the User-Agent, such as gatehouse/1.2.0.
	Agent string
	// Retries is how often a call is made again when the control plane did
	// not answer, or with 503. Default 3; below 0: never.
	Retries int
}

// Client makes calls. It is safe for concurrent use.
type Client struct {
	base    *url.URL
	token   string
	http    *http.Client
	agent   string
	retries int
}

// DefaultRetries is the default of Config.Retries.
const DefaultRetries = 3

// New returns a client. It does not connect. A token is not sent in clear to
// another machine: such a Server is an error.
func New(c Config) (*Client, error) {
	base, err := url.Parse(strings.TrimRight(c.Server, "/"))
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" || base.RawQuery != "" || base.User != nil || base.Path != "" {
		return nil, &gatehouse.Error{Code: gatehouse.CodeBadRequest, Message: fmt.Sprintf("server %q is not a URL such as https://gatehouse.example.com:9090", c.Server)}
	}
	if base.Scheme == "http" && c.Token != "" && !isLocal(base.Hostname()) {
		return nil, &gatehouse.Error{Code: gatehouse.CodeBadRequest, Message: fmt.Sprintf("the token would go to %s in clear: use https", base.Host)}
	}
	if c.Retries == 0 {
		c.Retries = DefaultRetries
	}
	out := &Client{base: base, token: c.Token, http: &http.Client{}, agent: c.Agent, retries: max(c.Retries, 0)}
	if c.HTTP != nil {
		*out.http = *c.HTTP
	}
	// The API redirects nobody; a token must not follow who does.
	out.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return out, nil
}

// Server returns the control plane's URL.
func (c *Client) Server() string { return c.base.String() }

// Call is one call of the API.
type Call struct {
	Operation Operation
	// Path are the values of the path's parameters, in its order.
	Path []string
	// Query are the parameters behind the path; nil: none.
	Query url.Values
	// Body is sent as JSON; nil: nothing is. json.RawMessage goes as it is.
	Body any
	// Match is the ETag that a change was made for, or *; empty: not sent.
	Match string
	// Idempotency makes a change once however often it is sent. Default: a
	// random key for each call.
	Idempotency string
	// Header is sent beside what the call needs; nil: nothing is.
	Header http.Header
}

// Answer is what came back of a call.
type Answer struct {
	// ETag is that of the resource; empty where it has none.
	ETag string
	// Body is JSON; empty where there is none.
	Body json.RawMessage
	// Link is the query of the next page; nil on the last.
	Link url.Values
}

// Into decodes the body.
func (a *Answer) Into(v any) error {
	if err := json.Unmarshal(a.Body, v); err != nil {
		return &gatehouse.Error{Code: gatehouse.CodeInternal, Message: "the control plane's answer is not understood", Err: err}
	}
	return nil
}

// maxAnswer bounds an answer that is read as a whole, in bytes.
const maxAnswer = 256 << 20

// Do makes a call, more than once where the control plane does not answer: a
// change carries an Idempotency-Key, so that it is made once.
func (c *Client) Do(ctx context.Context, call Call) (*Answer, error) {
	r, err := c.send(ctx, &call)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(io.LimitReader(r.Body, maxAnswer+1))
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if len(body) > maxAnswer {
		return nil, &gatehouse.Error{Code: gatehouse.CodeInternal, Message: "the control plane's answer is larger than 256 MiB"}
	}
	return &Answer{ETag: r.Header.Get("ETag"), Body: body, Link: nextLink(r.Header)}, nil
}

// Open makes a call whose answer is a stream. The caller closes it.
func (c *Client) Open(ctx context.Context, call Call) (io.ReadCloser, error) {
	r, err := c.send(ctx, &call)
	if err != nil {
		return nil, err
	}
	return r.Body, nil
}

// send makes a call until there is an answer, which is a success.
func (c *Client) send(ctx context.Context, call *Call) (*http.Response, error) {
	method, path, err := call.Operation.expand(call.Path)
	if err != nil {
		return nil, err
	}
	body, err := encode(call.Body)
	if err != nil {
		return nil, &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: "the body cannot be sent", Err: err}
	}
	target := c.base.String() + path
	if len(call.Query) > 0 {
		target += "?" + call.Query.Encode()
	}
	key := call.Idempotency
	if key == "" && method != http.MethodGet {
		key = rand.Text()
	}
	for attempt := 0; ; attempt++ {
		request, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", call.Operation, err)
		}
		c.head(request, call, key, len(body) > 0)
		r, err := c.http.Do(request)
		if err != nil {
			err = c.unreachable(ctx, err)
		} else if r.StatusCode >= 200 && r.StatusCode < 300 {
			return r, nil
		} else {
			err = problem(r)
		}
		if attempt >= c.retries || gatehouse.CodeOf(err) != gatehouse.CodeUnavailable || ctx.Err() != nil {
			return nil, err
		}
		if pause(ctx, backOff(attempt, 100*time.Millisecond, 2*time.Second)) != nil {
			return nil, err
		}
	}
}

func (c *Client) head(r *http.Request, call *Call, key string, body bool) {
	for name, values := range call.Header {
		r.Header[name] = values
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	if c.agent != "" {
		r.Header.Set("User-Agent", c.agent)
	}
	if body {
		r.Header.Set("Content-Type", "application/json")
	}
	if call.Match != "" {
		r.Header.Set("If-Match", call.Match)
	}
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
}

func (c *Client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err // the URL is told
	}
	return &gatehouse.Error{Code: gatehouse.CodeUnavailable, Message: "the control plane at " + c.base.String() + " does not answer", Err: err}
}

func encode(body any) ([]byte, error) {
	switch b := body.(type) {
	case nil:
		return nil, nil
	case json.RawMessage:
		return b, nil
	}
	return json.Marshal(body)
}

// backOff is a random time up to a bound that doubles from one attempt to the
// next (full jitter).
func backOff(attempt int, first, most time.Duration) time.Duration {
	bound := most
	if attempt < 20 {
		bound = min(most, first<<attempt)
	}
	n, err := rand.Int(rand.Reader, big.NewInt(int64(bound)))
	if err != nil {
		return bound
	}
	return time.Duration(n.Int64())
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
