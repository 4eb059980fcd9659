package main

import (
	"context"
	"encoding/json"
	"iter"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/policy"
)

// usage is what a tenant has used at this data plane.
func (p *process) usage(_ context.Context, id gatehouse.TenantID) (metering.Usage, error) {
	return p.meter.Usage(id, time.Now()), nil
}

// shadowReport tells how a tenant's shadow policy decides at this data plane.
func (p *process) shadowReport(_ context.Context, id gatehouse.TenantID) (json.RawMessage, error) {
	report, ok, err := p.gateway.Shadow(id)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, &gatehouse.Error{Code: gatehouse.CodeNotFound, Message: "the tenant has no shadow policy"}
	}
	return json.Marshal(report)
}

// decisions are the last that this data plane kept of a tenant.
func (p *process) decisions(_ context.Context, id gatehouse.TenantID, limit int) (iter.Seq[json.RawMessage], error) {
	entries, err := p.gateway.Decisions(id, policy.Filter{Last: limit})
	if err != nil {
		return nil, err
	}
	return func(yield func(json.RawMessage) bool) {
		for e := range entries {
			// An entry that cannot be encoded is left out: there is no one to tell.
			if raw, err := json.Marshal(e); err == nil && !yield(raw) {
				return
			}
		}
	}, nil
}

// maxReplayed bounds the decisions that one call replays.
const maxReplayed = 10_000

// replay decides what this data plane kept of a tenant by other modules.
func (p *process) replay(_ context.Context, id gatehouse.TenantID, modules []gatehouse.Module) (json.RawMessage, error) {
	out, err := p.gateway.Replay(id, modules, policy.Filter{Last: maxReplayed})
	if err != nil {
		return nil, err
	}
	return json.Marshal(out)
}
