// Package cloudevents is a sink of usage as CloudEvents 1.0 over HTTP, for
// receivers that know an event by source and id, such as OpenMeter.
//
// A receiver cannot be told of a value that grows. Hence a cell is one event,
// sent once its minute is sealed, when its value is final, with an id made of
// the cell's identity. It may be sent again; a receiver that remembers ids for
// a time is to be sent none after that time.
package cloudevents

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
)

// Config is what the sink is made of.
type Config struct {
	// URL takes batches of events by POST: https://openmeter/api/v1/events.
	URL string
	// Token is sent as Authorization: Bearer. Default: none.
	Token gatehouse.Secret
	// Final returns every cell that a seal is the first to cover, at its last
	// value, and fails while it does not know of the seal; (*ledger.Ledger).Final
	// does. Default: the cells of a batch that its seals cover are sent, and no
	// others: whoever writes then puts all cells that a seal is the first to
	// cover into one batch with it, which metering's shippers do not promise.
	Final func(context.Context, metering.Seal) ([]metering.Cell, error)
	// Timeout bounds one request. Default: 30 s.
	Timeout time.Duration
	// Events and Bytes bound the body of one request. Default: 100 events and
	// 256 KiB; an event is less than 2 KiB.
	Events, Bytes int
}

const (
	defaultTimeout = 30 * time.Second
	defaultEvents  = 100
	defaultBytes   = 256 << 10
)

// Sink sends to one receiver. It is safe for concurrent use.
type Sink struct {
	config Config
	client *http.Client

	mu    sync.Mutex
	after time.Time // nothing is sent before, by Retry-After; guarded by mu
}

// ErrRefused is in the tree of an error that the same batch will meet again:
// the receiver answered with a 4xx that is not 408, 425 or 429.
var ErrRefused = errors.New("the receiver refuses the events")

// New returns a sink. It does not speak to the receiver yet. Close ends it.
func New(c Config) (*Sink, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("cloudevents: %q is not an http or https URL", c.URL)
	}
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	if c.Events <= 0 {
		c.Events = defaultEvents
	}
	if c.Bytes <= 0 {
		c.Bytes = defaultBytes
	}
	client := &http.Client{
		Timeout:       c.Timeout,
		Transport:     &http.Transport{MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // with the token, to whom?
	}
	return &Sink{config: c, client: client}, nil
}

// Close ends idle connections.
func (s *Sink) Close() { s.client.CloseIdleConnections() }

// Name is "cloudevents".
func (s *Sink) Name() string { return "cloudevents" }

// Write sends one event for each cell of the minutes that b seals. After an
// error any part of them may have been taken; the same batch is then written
// again. While a receiver's Retry-After lasts, Write fails without asking it.
func (s *Sink) Write(ctx context.Context, b metering.Batch) error {
	cells, err := s.final(ctx, &b)
	if err != nil {
		return fmt.Errorf("cloudevents: %w", err)
	}
	var body bytes.Buffer
	n := 0
	for i := range cells {
		text, err := json.Marshal(NewEvent(&cells[i]))
		if err != nil {
			return fmt.Errorf("cloudevents: %w", err)
		}
		if n == s.config.Events || n > 0 && body.Len()+len(text)+2 > s.config.Bytes {
			if err := s.send(ctx, &body, n); err != nil {
				return err
			}
			n = 0
			body.Reset()
		}
		body.WriteByte("[,"[min(n, 1)])
		body.Write(text)
		n++
	}
	if n == 0 {
		return nil
	}
	return s.send(ctx, &body, n)
}

// final returns the cells of the sealed minutes.
func (s *Sink) final(ctx context.Context, b *metering.Batch) ([]metering.Cell, error) {
	var cells []metering.Cell
	if s.config.Final != nil {
		for _, seal := range b.Seals {
			more, err := s.config.Final(ctx, seal)
			if err != nil {
				return nil, err
			}
			cells = append(cells, more...)
		}
		return cells, nil
	}
	type epoch struct {
		gateway string
		metering.Epoch
	}
	sealed := make(map[epoch]time.Time, len(b.Seals))
	for _, seal := range b.Seals {
		if e := (epoch{seal.Gateway, seal.Epoch}); seal.Window.After(sealed[e]) {
			sealed[e] = seal.Window
		}
	}
	last := map[metering.Cell]int{}
	for _, c := range b.Cells {
		c.Window = c.Window.UTC()
		if c.Window.After(sealed[epoch{c.Gateway, c.Epoch}]) {
			continue
		}
		identity := c
		identity.Value = 0
		i, seen := last[identity]
		if !seen {
			last[identity] = len(cells)
			cells = append(cells, c)
			continue
		}
		cells[i].Value = max(cells[i].Value, c.Value)
	}
	return cells, nil
}

// Event is one cell as a CloudEvent in JSON.
type Event struct {
	SpecVersion string `json:"specversion"`
	// ID is EPOCH.MINUTE.SERIES.METER, at most 100 bytes for the names of
	// meters that there are: SERIES is a hash of the series.
	ID string `json:"id"`
	// Source is gatehouse/ and the gateway.
	Source          string             `json:"source"`
	Type            string             `json:"type"`    // the meter
	Subject         gatehouse.TenantID `json:"subject"` // the tenant
	Time            time.Time          `json:"time"`    // when the minute begins
	DataContentType string             `json:"datacontenttype"`
	Data            Data               `json:"data"`
}

// Data is an event's data.
type Data struct {
	// Value is a decimal number in the meter's unit. It is a string, so that no
	// reader rounds it.
	Value    string            `json:"value"`
	Route    gatehouse.RouteID `json:"route,omitempty"`
	Consumer string            `json:"consumer,omitempty"`
	Plan     gatehouse.PlanID  `json:"plan,omitempty"`
}

// NewEvent returns the event of a cell.
func NewEvent(c *metering.Cell) Event {
	k := c.Series
	hash := sha256.New()
	for _, name := range []string{string(k.Tenant), string(k.Route), k.Consumer, string(k.Plan)} {
		fmt.Fprintf(hash, "%d:%s", len(name), name)
	}
	series := base64.RawURLEncoding.EncodeToString(hash.Sum(nil)[:12])
	return Event{
		SpecVersion:     "1.0",
		ID:              fmt.Sprintf("%s.%d.%s.%s", c.Epoch, c.Window.Unix()/60, series, c.Meter),
		Source:          "gatehouse/" + c.Gateway,
		Type:            c.Meter,
		Subject:         k.Tenant,
		Time:            c.Window.UTC(),
		DataContentType: "application/json",
		Data:            Data{decimal(c.Meter, c.Value), k.Route, k.Consumer, k.Plan},
	}
}

// decimal writes a cell's value in the meter's unit: custom ones, which are
// all but those of every gateway, are counted in millionths.
func decimal(meter string, value int64) string {
	switch meter {
	case metering.MeterRequests, metering.MeterBillable, metering.MeterInterrupted,
		metering.MeterBytesIn, metering.MeterBytesOut, metering.MeterCompute:
		return strconv.FormatInt(value, 10)
	}
	text := fmt.Sprintf("%d.%06d", value/metering.Unit, value%metering.Unit)
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
}

// send posts a body of n events that lacks its end.
func (s *Sink) send(ctx context.Context, body *bytes.Buffer, n int) error {
	s.mu.Lock()
	after := s.after
	s.mu.Unlock()
	if time.Now().Before(after) {
		return fmt.Errorf("cloudevents: the receiver takes nothing before %s", after.UTC().Format(time.RFC3339))
	}
	body.WriteByte(']')
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.config.URL, body)
	if err != nil {
		return fmt.Errorf("cloudevents: %w", err)
	}
	r.Header.Set("Content-Type", "application/cloudevents-batch+json")
	if len(s.config.Token) > 0 {
		r.Header.Set("Authorization", "Bearer "+string(s.config.Token))
	}
	answer, err := s.client.Do(r)
	if err != nil {
		return fmt.Errorf("cloudevents: send %d events: %w", n, err)
	}
	defer answer.Body.Close()
	const maxMessage = 1 << 10
	text, _ := io.ReadAll(io.LimitReader(answer.Body, maxMessage))
	if answer.StatusCode/100 == 2 {
		return nil
	}
	s.mu.Lock()
	s.after = retryAfter(answer.Header.Get("Retry-After"), time.Now())
	s.mu.Unlock()
	err = fmt.Errorf("status %d: %s", answer.StatusCode, bytes.TrimSpace(text))
	switch answer.StatusCode {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
	default:
		if answer.StatusCode/100 == 4 {
			err = fmt.Errorf("%w: %w", ErrRefused, err)
		}
	}
	return fmt.Errorf("cloudevents: send %d events: %w", n, err)
}

// maxRetryAfter bounds what a receiver can ask for.
const maxRetryAfter = time.Hour

// retryAfter reads the field of RFC 9110, section 10.2.3: seconds or a date.
func retryAfter(field string, now time.Time) time.Time {
	if field == "" {
		return time.Time{}
	}
	var after time.Time
	if seconds, err := strconv.ParseUint(field, 10, 31); err == nil {
		after = now.Add(time.Duration(seconds) * time.Second)
	} else if after, err = http.ParseTime(field); err != nil {
		return time.Time{}
	}
	if latest := now.Add(maxRetryAfter); after.After(latest) {
		return latest
	}
	return after
}
