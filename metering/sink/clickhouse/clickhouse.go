// Package clickhouse is a sink of cells in ClickHouse, over its HTTP interface.
//
// A cell may be written any number of times and in any order: the table keeps
// the row with the largest value of each identity, and Cells, like every sum
// over the table must, takes the largest itself, because the server merges
// rows when it likes:
//
//	SELECT tenant, sum(v) FROM (
//	  SELECT tenant, max(value) AS v FROM metering_cell WHERE meter = 'requests'
//	  GROUP BY gateway, epoch_counter, epoch_nonce, window, tenant, route, consumer, plan)
//	GROUP BY tenant
//
// This needs no FINAL, no deduplication of inserted blocks and no Keeper. The
// month of a cell is part of its identity, so that the parts by month can be
// dropped whole.
//
// The statements are taken by every server since 18.16. A server since 19.8
// may hold the same rows in ENGINE = AggregatingMergeTree with value
// SimpleAggregateFunction(max, UInt64): make that table before the first
// write, and the sink uses it as it is. On a cluster, make it replicated in
// the same way.
package clickhouse

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"sync"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
)

// Config is what the sink is made of.
type Config struct {
	// URL of the server, such as http://clickhouse:8123/?database=usage. Its
	// parameters are sent with every statement; they may be settings.
	URL string
	// User and Password log in, by HTTP's Basic scheme. Default: nobody, which
	// the server takes for its user default.
	User     string
	Password gatehouse.Secret
	// Table holds the cells, and with _seal after its name the seals. Both are
	// made where they are missing. Default: metering_cell.
	Table string
	// Timeout bounds one statement. Default: 30 s.
	Timeout time.Duration
	// Rows bounds the cells of one statement. Default: 5,000, about 1 MiB.
	Rows int
}

const (
	defaultTable   = "metering_cell"
	defaultTimeout = 30 * time.Second
	defaultRows    = 5_000
)

// Sink writes to one server. It is safe for concurrent use.
type Sink struct {
	config Config
	url    *url.URL
	client *http.Client

	mu   sync.Mutex // held while the tables are made
	made bool       // the tables are there; guarded by mu
}

var tableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?$`)

// New returns a sink. It does not speak to the server yet. Close ends it.
func New(c Config) (*Sink, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("clickhouse: %q is not an http or https URL", c.URL)
	}
	if c.Table == "" {
		c.Table = defaultTable
	}
	if !tableName.MatchString(c.Table) {
		return nil, fmt.Errorf("clickhouse: %q is not the name of a table", c.Table)
	}
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	if c.Rows <= 0 {
		c.Rows = defaultRows
	}
	return &Sink{config: c, url: u, client: &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute, ResponseHeaderTimeout: c.Timeout,
	}}}, nil
}

// Close ends idle connections.
func (s *Sink) Close() { s.client.CloseIdleConnections() }

// Name is "clickhouse".
func (s *Sink) Name() string { return "clickhouse" }

// Write sends the cells and then the seals. An error leaves any part of them
// written; the same batch is then written again.
func (s *Sink) Write(ctx context.Context, b metering.Batch) error {
	if err := s.make(ctx); err != nil {
		return fmt.Errorf("clickhouse: make tables: %w", err)
	}
	for cells := b.Cells; len(cells) > 0; {
		n := min(len(cells), s.config.Rows)
		if err := insert(ctx, s, s.config.Table, cells[:n], cellRow); err != nil {
			return fmt.Errorf("clickhouse: write %d cells: %w", n, err)
		}
		cells = cells[n:]
	}
	if len(b.Seals) > 0 {
		if err := insert(ctx, s, s.config.Table+"_seal", b.Seals, sealRow); err != nil {
			return fmt.Errorf("clickhouse: write %d seals: %w", len(b.Seals), err)
		}
	}
	return nil
}

// make makes the tables once. A partition is named by the month of the
// identity, hence one cell is never in two.
func (s *Sink) make(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.made {
		return nil
	}
	for _, statement := range []string{
		"CREATE TABLE IF NOT EXISTS " + s.config.Table + ` (
			gateway String, epoch_counter UInt32, epoch_nonce UInt64, window DateTime('UTC'),
			tenant String, route String, consumer String, plan String, meter String, value UInt64
		) ENGINE = ReplacingMergeTree(value) PARTITION BY toYYYYMM(window)
		ORDER BY (tenant, meter, window, route, consumer, plan, gateway, epoch_counter, epoch_nonce)`,
		"CREATE TABLE IF NOT EXISTS " + s.config.Table + `_seal (
			gateway String, epoch_counter UInt32, epoch_nonce UInt64, window DateTime('UTC'), final UInt8
		) ENGINE = ReplacingMergeTree(final) PARTITION BY toYYYYMM(window)
		ORDER BY (gateway, epoch_counter, epoch_nonce, window)`,
	} {
		body, err := s.do(ctx, statement, nil)
		if err != nil {
			return err
		}
		body.Close()
	}
	s.made = true
	return nil
}

// record is one row, in either direction. Numbers of 64 bits are strings:
// servers differ in how they write them, and all read these.
type record struct {
	Gateway  string             `json:"gateway"`
	Counter  uint32             `json:"epoch_counter"`
	Nonce    uint64             `json:"epoch_nonce,string"`
	Window   int64              `json:"window"`
	Tenant   gatehouse.TenantID `json:"tenant,omitempty"`
	Route    gatehouse.RouteID  `json:"route,omitempty"`
	Consumer string             `json:"consumer,omitempty"`
	Plan     gatehouse.PlanID   `json:"plan,omitempty"`
	Meter    string             `json:"meter,omitempty"`
	Value    int64              `json:"value,omitempty,string"`
	Final    uint8              `json:"final,omitempty"` // of a seal: 1 if the epoch is over
}

func cellRow(c *metering.Cell) record {
	k := &c.Series
	return record{
		c.Gateway, c.Epoch.Counter, c.Epoch.Nonce, c.Window.Unix(), k.Tenant, k.Route, k.Consumer, k.Plan, c.Meter, c.Value, 0,
	}
}

func sealRow(s *metering.Seal) record {
	r := record{Gateway: s.Gateway, Counter: s.Epoch.Counter, Nonce: s.Epoch.Nonce, Window: s.Window.Unix()}
	if s.Final {
		r.Final = 1
	}
	return r
}

func insert[T any](ctx context.Context, s *Sink, table string, rows []T, row func(*T) record) error {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	for i := range rows {
		if err := enc.Encode(row(&rows[i])); err != nil {
			return err
		}
	}
	body, err := s.do(ctx, "INSERT INTO "+table+" FORMAT JSONEachRow", &text)
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = io.Copy(io.Discard, body) // the server says that it is done by ending the body
	return err
}

// maxMessage bounds what is read of an error.
const maxMessage = 2 << 10

// do runs a statement and returns the answer's body. Without data the
// statement itself is the request's body.
func (s *Sink) do(ctx context.Context, statement string, data *bytes.Buffer) (io.ReadCloser, error) {
	u := *s.url
	q := u.Query()
	if data != nil {
		q.Set("query", statement)
	} else {
		data = bytes.NewBufferString(statement)
	}
	u.RawQuery = q.Encode()
	ctx, cancel := context.WithTimeout(ctx, s.config.Timeout)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), data)
	if err != nil {
		cancel()
		return nil, err
	}
	if s.config.User != "" {
		r.SetBasicAuth(s.config.User, string(s.config.Password))
	}
	answer, err := s.client.Do(r)
	if err != nil {
		cancel()
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // the URL may hold a password
		}
		return nil, err
	}
	// Newer servers tell of an exception in a header too, with status 200.
	if answer.StatusCode != http.StatusOK || answer.Header.Get("X-ClickHouse-Exception-Code") != "" {
		defer cancel()
		defer answer.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(answer.Body, maxMessage))
		return nil, fmt.Errorf("status %d: %s", answer.StatusCode, bytes.TrimSpace(text))
	}
	return &timed{answer.Body, cancel}, nil
}

// timed ends the statement's time with its body.
type timed struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (t *timed) Close() error {
	defer t.cancel()
	return t.ReadCloser.Close()
}
