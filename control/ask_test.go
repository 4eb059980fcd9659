package control_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/metering/servertest"
)

// Whichever of two control planes on one PostgreSQL is asked, it answers for
// the data planes of both, the one in the process of the other among them.
func TestAskedOfAnother(t *testing.T) {
	address := servertest.Postgres(t)
	var running sync.WaitGroup
	defer running.Wait()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	join := func(name string) *control.Gateways {
		_, j := planeAt(t, address, time.Now)
		g := control.NewGateways(time.Now, name, j.Peers())
		running.Go(func() { g.Run(ctx, slog.New(slog.DiscardHandler)) })
		running.Go(func() {
			g.Local(ctx, func(_ context.Context, q *control.Question) control.Answer { return answered(q, 1) })
		})
		return g
	}
	a, b := join("host"), join("host")
	end := follows(ctx, &running, b, "edge-2", 10)
	follows(ctx, &running, a, "edge-1", 100)
	for _, g := range []*control.Gateways{a, b} {
		var all []control.GatewayMetrics
		for len(all) != 4 { // they find each other
			all = g.Metrics(ctx, "t")
		}
		sum, n := control.MergeMetrics(all)
		names := all[0].Gateway + " " + all[1].Gateway + " " + all[2].Gateway + " " + all[3].Gateway
		if n != 4 || sum.Requests != 112 || sum.P99 != 100 || sum.Classes["2xx"] != 112 || sum.Backends[0].Open != 112 || len(sum.Routes) != 1 || sum.Routes[0].Requests != 112 ||
			len(sum.Limits) != 0 || len(all[0].Metrics.Limits) != 1 || names != "edge-1 edge-2 local local@host" {
			t.Errorf("%s: %d %+v", names, n, sum)
		}
		if h := g.Health(ctx, "t", "edge-3"); len(h) != 5 || h[1].Status != "healthy" || h[2].Gateway != "edge-3" || h[2].Problem == "" || control.MergeHealth(h).Status != "healthy" {
			t.Errorf("%+v", h)
		}
	}
	// It is gone from there: the other one does not know it any more but by its
	// token.
	end()
	for all := a.Health(ctx, "t", "edge-2"); ; all = a.Health(ctx, "t", "edge-2") {
		if len(all) == 4 && all[1].Gateway == "edge-2" && all[1].Status == "unknown" && all[1].Problem != "" {
			break
		}
	}
}

// answered tells the same of every figure.
func answered(q *control.Question, n int64) control.Answer {
	if q.Topic == control.TopicHealth {
		return control.Answer{ID: q.ID, Health: &control.LiveHealth{Status: "healthy"}}
	}
	load := control.Load{Requests: n, P99: float64(n)}
	return control.Answer{ID: q.ID, Metrics: &control.LiveMetrics{
		Load: load, Classes: map[string]int64{"2xx": n}, Limits: []json.RawMessage{json.RawMessage(`{}`)},
		Backends: []control.BackendConnections{{Backend: "app", Open: int(n)}}, Routes: []control.RouteMetrics{{Route: "r", Load: load}},
	}}
}

// follows answers for a data plane, until the function returned is called.
func follows(ctx context.Context, running *sync.WaitGroup, g *control.Gateways, name string, n int64) (end func()) {
	ctx, stop := context.WithCancel(ctx)
	questions, deaf := g.Questions(name)
	running.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case q := <-questions:
				_ = g.Answer(name, answered(&q, n)) // who asked may have gone
			}
		}
	})
	return func() { deaf(); stop() }
}

// A data plane that does not know a topic answers another one: that is told.
func TestAskedOfOlder(t *testing.T) {
	g := control.NewGateways(time.Now, "", nil)
	questions, deaf := g.Questions("edge-1")
	defer deaf()
	go func() {
		q := <-questions
		_ = g.Answer("edge-1", control.Answer{ID: q.ID, Health: &control.LiveHealth{Status: "healthy"}})
	}()
	all := g.Metrics(t.Context(), "t")
	if len(all) != 1 || all[0].Metrics != nil || all[0].Problem == "" {
		t.Errorf("%+v", all)
	}
	if m, n := control.MergeMetrics(all); n != 0 || m.Requests != 0 {
		t.Errorf("%+v", m)
	}
}
