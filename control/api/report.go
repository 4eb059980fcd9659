package api

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/metering/ledger"
)

// report is the body of what a data plane reports. What a later version adds
// to it is passed over.
type report struct {
	GatewayPath
	RawBody []byte
}

func (r *report) into(v any) error {
	if err := json.Unmarshal(r.RawBody, v); err != nil {
		return &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: "a report is expected"}
	}
	return nil
}

func (s *rest) answerQuestion(_ context.Context, in *report) (*struct{}, error) {
	var a control.Answer
	if err := in.into(&a); err != nil {
		return nil, err
	}
	return nil, s.Gateways.Answer(in.Gateway, a)
}

func (s *rest) reportTraffic(ctx context.Context, in *report) (*struct{}, error) {
	var r control.TrafficReport
	if err := in.into(&r); err != nil {
		return nil, err
	}
	r.Gateway = in.Gateway
	if err := r.Validate(time.Now()); err != nil {
		return nil, err
	}
	if s.Traffic == nil {
		return nil, notBuilt("analytics are")
	}
	return nil, s.Traffic(ctx, &r)
}

func (s *rest) reportUsage(ctx context.Context, in *report) (*struct{}, error) {
	var r control.UsageReport
	if err := in.into(&r); err != nil {
		return nil, err
	}
	b, err := r.Batch()
	if err != nil {
		return nil, err
	}
	if err := ledger.Check(&b); err != nil {
		return nil, &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: err.Error()}
	}
	l, err := s.Ledger.open(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.Plane.ClaimFolders(ctx, caller(ctx), in.Gateway, foldersOf(&b)); err != nil {
		return nil, err
	}
	return nil, l.Write(ctx, b)
}

// foldersOf are the data folders that a batch is of.
func foldersOf(b *metering.Batch) []string {
	names := map[string]bool{}
	for i := range b.Cells {
		names[b.Cells[i].Gateway] = true
	}
	for _, s := range b.Seals {
		names[s.Gateway] = true
	}
	return slices.Sorted(maps.Keys(names))
}
