package upstream

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// check is the active health check of one endpoint by one set of rules. It
// runs on a goroutine of the Client's.
type check struct {
	endpoint *endpoint
	rules    gatehouse.Health
	log      *slog.Logger
	stop     context.CancelFunc
	refs     int // backends that go by it; guarded by Client.mu
}

// startCheck starts a check. The caller holds mu.
func (c *Client) startCheck(e *endpoint, rules gatehouse.Health, log *slog.Logger) *check {
	ctx, stop := context.WithCancel(context.Background())
	k := &check{endpoint: e, rules: rules, log: log.With("endpoint", e.url), stop: stop}
	c.running[k] = struct{}{}
	c.checks.Go(func() { k.run(ctx) })
	return k
}

// run probes each interval, first at a random instant within one, so that the
// checks of many backends spread.
func (k *check) run(ctx context.Context) {
	interval := time.Duration(k.rules.Interval)
	timer := time.NewTimer(rand.N(interval))
	defer timer.Stop()
	for good, bad := 0, 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		start := time.Now()
		err := k.probe(ctx, start.Add(interval))
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			good, bad = good+1, 0
		} else {
			good, bad = 0, bad+1
		}
		k.judge(good, bad, err)
		timer.Reset(interval - time.Since(start))
	}
}

// judge applies the thresholds to the successes and failures in a row.
func (k *check) judge(good, bad int, err error) {
	sick := &k.endpoint.sick
	switch {
	case good >= k.rules.HealthyAfter && sick.CompareAndSwap(true, false):
		k.endpoint.rise(k.endpoint.client.clock.now())
		k.log.Info("endpoint is healthy")
	case bad >= k.rules.UnhealthyAfter && sick.CompareAndSwap(false, true):
		k.log.Warn("endpoint is unhealthy", "error", err)
	}
}

// probe makes one request on a connection of its own, outside the pool.
func (k *check) probe(ctx context.Context, by time.Time) error {
	if k.endpoint.streams != nil {
		return k.probeStream(ctx, by)
	}
	c, failed := k.endpoint.dial(ctx, by)
	if failed != nil {
		return failed
	}
	defer c.close()
	defer context.AfterFunc(ctx, c.close)()
	c.open()
	defer c.strip()
	left := time.Until(by)
	request := "GET " + k.rules.Path + " HTTP/1.1\r\nHost: " + k.endpoint.target.header +
		"\r\nUser-Agent: gatehouse-health\r\nAccept: */*\r\nConnection: close\r\n\r\n"
	if err := c.nc.SetWriteDeadline(by); err != nil {
		return err
	}
	if _, err := c.nc.Write([]byte(request)); err != nil {
		return explain(err, writing, k.endpoint.url)
	}
	var h head
	if err := c.readHead(&h, c.clock.now()+left, left); err != nil {
		return explain(err, awaiting, k.endpoint.url)
	}
	if h.status/100 != 2 {
		return fmt.Errorf("status %d", h.status)
	}
	return nil
}
