package main

import (
	"context"
	"time"

	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/client"
	"github.com/gatehouse-gateway/gatehouse/metering"
)

// controlSink takes usage to the ledger of a control plane elsewhere. What it
// is not sure of it sends again: there a cell counts once.
type controlSink struct {
	client  *client.Client
	gateway string
	limit   time.Duration // of one call
}

// reportLimit bounds one report to the control plane, with its repetitions:
// what takes the connection and never answers is tried again.
const reportLimit = 30 * time.Second

// controlSinkName names it in metrics, and in what is known of how far it is.
const controlSinkName = "control"

// Name is the same over restarts.
func (s *controlSink) Name() string { return controlSinkName }

// Write returns when all of b is in the ledger.
func (s *controlSink) Write(ctx context.Context, b metering.Batch) error {
	for _, r := range control.UsageReports(b) {
		if err := report(ctx, s.client, s.limit, client.Call{Operation: client.ReportUsage, Path: []string{s.gateway}, Body: r}); err != nil {
			return err
		}
	}
	return nil
}

// report makes a call whose answer says nothing.
func report(ctx context.Context, c *client.Client, limit time.Duration, call client.Call) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	_, err := c.Do(ctx, call)
	return err
}
