package main

import (
	"context"
	"crypto/rand"
	"log/slog"
	"slices"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/client"
	"github.com/gatehouse-gateway/gatehouse/proxy"
)

// analytics are series from the store.
func (s *store) analytics(ctx context.Context, q control.AnalyticsQuery) (control.Analytics, error) {
	return s.insight.Series(ctx, q, time.Now())
}

// traffic adds to the series what a data plane reports.
func (s *store) traffic(ctx context.Context, r *control.TrafficReport) error {
	_, err := s.insight.Add(ctx, r.Source, r.First, r.Minutes)
	return err
}

const (
	pruneEvery = time.Hour
	pruneLimit = 10 * time.Minute
)

// prune deletes what analytics are no longer kept for, until ctx ends.
func (s *store) prune(ctx context.Context, log *slog.Logger) error {
	for pause(ctx, pruneEvery) == nil {
		limit, cancel := context.WithTimeout(ctx, pruneLimit)
		_, err := s.insight.Prune(limit, time.Now())
		cancel()
		if err != nil && ctx.Err() == nil {
			log.Error("old analytics are not deleted", "error", err)
		}
	}
	return nil
}

const (
	collectEvery = time.Minute
	lastWrite    = 5 * time.Second
	// collectKept bounds the rows that wait for a store that does not answer.
	collectKept = 200_000
)

// collector takes what requests came to by the minute to a store, here or at
// the control plane. What is not taken there waits, and is sent again.
type collector struct {
	take func(time.Time) []proxy.Tally
	// write returns how many of some minutes are there for good; first is the
	// number of the first. What comes again by its number counts once.
	write   func(ctx context.Context, first uint64, some []control.Minute) (int, error)
	log     *slog.Logger
	waiting []control.Minute // what is not written yet, oldest first
	first   uint64           // the number of the first of them
}

// collector is that of this process; nil where there is nobody to tell.
func (p *process) collector() *collector {
	c := &collector{take: p.gateway.TakeTallies, log: p.log, first: 1}
	source := control.Source{Gateway: control.LocalGateway, Epoch: rand.Text()}
	switch {
	case p.store != nil:
		c.write = func(ctx context.Context, first uint64, some []control.Minute) (int, error) {
			return p.store.insight.Add(ctx, source, first, some)
		}
	case p.remote != nil:
		source.Gateway = p.remote.gateway
		c.write = func(ctx context.Context, first uint64, some []control.Minute) (int, error) {
			return p.remote.sendTraffic(ctx, source, first, some)
		}
	default:
		return nil
	}
	return c
}

// sendTraffic reports minutes to the control plane. A report that it will never
// take is lost, so that those after it are not.
func (f *remoteFeed) sendTraffic(ctx context.Context, from control.Source, first uint64, some []control.Minute) (n int, err error) {
	for part := range slices.Chunk(some, control.MaxReported) {
		r := control.TrafficReport{Source: from, First: first + uint64(n), Minutes: part}
		err := report(ctx, f.client, f.limit, client.Call{Operation: client.ReportTraffic, Path: []string{from.Gateway}, Body: r})
		if gatehouse.CodeOf(err) == gatehouse.CodeInvalid {
			f.log.Error("analytics that the control plane does not take are lost", "error", err, "lost", len(part))
		} else if err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}

// run collects at the end of each minute until ctx ends, and then once more.
func (c *collector) run(ctx context.Context) error {
	for {
		now := time.Now()
		err := pause(ctx, now.Truncate(collectEvery).Add(collectEvery).Sub(now))
		minute := now // the one that has ended, or is about to
		if err != nil {
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWrite)
			defer cancel()
			c.collect(last, minute)
			return nil
		}
		c.collect(ctx, minute)
	}
}

// collect takes what was counted as that of a minute, and writes it.
func (c *collector) collect(ctx context.Context, minute time.Time) {
	for _, t := range c.take(time.Now()) {
		c.waiting = append(c.waiting, minuteOf(&t, minute))
	}
	n, err := c.write(ctx, c.first, c.waiting)
	c.pass(n)
	if err == nil {
		return
	}
	lost := max(len(c.waiting)-collectKept, 0)
	c.pass(lost)
	c.log.Error("analytics are not written; they are tried again", "error", err, "waiting", len(c.waiting), "lost", lost)
}

// pass forgets the first n that wait; their numbers are not used again.
func (c *collector) pass(n int) {
	c.waiting, c.first = slices.Delete(c.waiting, 0, n), c.first+uint64(n)
}

func minuteOf(t *proxy.Tally, at time.Time) control.Minute {
	m := control.Minute{
		Tenant: t.Tenant, Route: t.Route, At: at.UTC(), Method: t.Method, Class: t.Class,
		Requests: t.Requests, Denied: t.Denied, Limited: t.Limited, BytesIn: t.BytesIn, BytesOut: t.BytesOut,
		Times: make([]control.TimeCount, len(t.Times)),
	}
	for i, b := range t.Times {
		m.Times[i] = control.TimeCount(b)
	}
	return m
}
