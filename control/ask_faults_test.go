package control_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/metering/servertest"
)

// others are control planes of one store, and what ends them.
type others struct {
	t       *testing.T
	address string
	ctx     context.Context //nolint:containedctx // of a test
	running *sync.WaitGroup
}

func newOthers(t *testing.T) *others {
	t.Helper()
	o := &others{t: t, address: servertest.Postgres(t), running: &sync.WaitGroup{}}
	ctx, stop := context.WithCancel(t.Context())
	o.ctx = ctx
	t.Cleanup(func() { stop(); o.running.Wait() })
	return o
}

// join adds one whose data plane answers so.
func (o *others) join(name string, answer func(*control.Question) control.Answer) *control.Gateways {
	o.t.Helper()
	_, j := planeAt(o.t, o.address, time.Now)
	g := control.NewGateways(time.Now, name, j.Peers())
	o.running.Go(func() { g.Run(o.ctx, slog.New(slog.DiscardHandler)) })
	o.running.Go(func() {
		g.Local(o.ctx, func(_ context.Context, q *control.Question) control.Answer { return answer(q) })
	})
	return g
}

// until asks until so many data planes are known of.
func until(t *testing.T, g *control.Gateways, n int) []control.GatewayMetrics {
	t.Helper()
	var all []control.GatewayMetrics
	for len(all) != n && t.Context().Err() == nil { // they find each other
		all = g.Metrics(t.Context(), "t")
	}
	return all
}

// An answer that is too long for its way is told as that, beside those of
// others that are not.
func TestAskedTooMuch(t *testing.T) {
	o := newOthers(t)
	a := o.join("a", func(q *control.Question) control.Answer { return answered(q, 1) })
	b := o.join("b", func(q *control.Question) control.Answer {
		out := answered(q, 1)
		out.Metrics.Limits = []json.RawMessage{json.RawMessage(`"` + strings.Repeat("x", journal.MaxTelling) + `"`)}
		return out
	})
	follows(o.ctx, o.running, b, "edge-1", 10)
	all := until(t, a, 3)
	if all[0].Gateway != "edge-1" || all[0].Metrics == nil || all[2].Gateway != "local@b" || all[2].Metrics != nil || !strings.Contains(all[2].Problem, "too long") {
		t.Errorf("%+v", all)
	}
}

// One whose answer cannot be read does not hide those of others, nor that not
// all is known.
func TestAskedOfAnotherRelease(t *testing.T) {
	o := newOthers(t)
	plain := func(q *control.Question) control.Answer { return answered(q, 1) }
	a := o.join("a", plain)
	_, j := planeAt(t, o.address, time.Now)
	o.running.Go(func() {
		j.Peers().Run(o.ctx, slog.New(slog.DiscardHandler), func(context.Context, []byte) ([]byte, error) { return []byte("?"), nil })
	})
	b := o.join("b", plain)
	follows(o.ctx, o.running, b, "edge-1", 1)
	for t.Context().Err() == nil { // they find each other
		if all := a.Health(t.Context(), "t", "edge-0"); len(all) == 4 && strings.Contains(all[0].Problem, "another one has not answered") {
			break
		}
	}
	for range 20 { // whichever answers first
		all := a.Health(t.Context(), "t", "edge-0")
		if len(all) != 4 || !strings.Contains(all[0].Problem, "another one has not answered") || all[1].Status != "healthy" || all[3].Status != "healthy" {
			t.Fatalf("%+v", all)
		}
	}
}

// Who asks the same at the same time shares one question to other control
// planes, and has the whole answer each.
func TestAskedAtOnce(t *testing.T) {
	o := newOthers(t)
	const askers = 10
	var here sync.WaitGroup
	var mu sync.Mutex
	counting, asked := false, 0 // guarded by mu
	a := o.join("a", func(q *control.Question) control.Answer {
		mu.Lock()
		defer mu.Unlock()
		if counting {
			here.Done()
		}
		return answered(q, 1)
	})
	o.join("b", func(q *control.Question) control.Answer {
		mu.Lock()
		wait := counting
		if wait {
			asked++
		}
		mu.Unlock()
		if wait {
			here.Wait() // all have asked
		}
		return answered(q, 1)
	})
	until(t, a, 2)
	here.Add(askers)
	mu.Lock()
	counting = true
	mu.Unlock()
	texts := make([][]byte, askers)
	var asking sync.WaitGroup
	for i := range askers {
		asking.Go(func() {
			var err error
			if texts[i], err = json.Marshal(a.Metrics(o.ctx, "t")); err != nil {
				t.Error(err)
			}
		})
	}
	asking.Wait()
	mu.Lock()
	defer mu.Unlock()
	if asked != 1 {
		t.Errorf("%d questions", asked)
	}
	for _, text := range texts {
		if !bytes.Equal(text, texts[0]) || !bytes.Contains(text, []byte("local@b")) {
			t.Errorf("%s", text)
		}
	}
}

// Whichever control plane is asked, it tells of the data planes of all of them,
// and of one that has moved by where it is now.
func TestGatewaysOfAll(t *testing.T) {
	o := newOthers(t)
	plain := func(q *control.Question) control.Answer { return answered(q, 1) }
	a, b := o.join("host", plain), o.join("host", plain)
	a.Connect(control.LocalGateway, "v1", "")
	b.Connect(control.LocalGateway, "v1", "")
	a.Connect("edge-1", "v1", "")
	b.Connect("edge-2", "v1", "")
	b.Connect("edge-3", "v1", "")()
	a.Connect("edge-3", "v1", "")
	a.Connect("edge-4", "v1", "")()
	refused := make([]gatehouse.Refusal, 1000)
	for i := range refused {
		refused[i] = gatehouse.Refusal{Tenant: gatehouse.TenantID(fmt.Sprint(i)), Faults: gatehouse.Faults{{Reason: strings.Repeat("r", 3000)}}}
	}
	if err := b.Report("edge-2", gatehouse.Outcome{Refused: refused}); err != nil {
		t.Fatal(err)
	}
	for _, g := range []*control.Gateways{a, b} {
		var l control.GatewayList
		for (len(l.Items) != 6 || l.Incomplete) && t.Context().Err() == nil { // they find each other
			l = g.All(t.Context())
		}
		var got []string
		for _, s := range l.Items {
			got = append(got, fmt.Sprint(s.ID, " ", s.Connected, " ", len(s.Refused)+s.RefusedMore))
		}
		if want := "edge-1 true 0, edge-2 true 1000, edge-3 true 0, edge-4 false 0, local true 0, local@host true 0"; strings.Join(got, ", ") != want {
			t.Errorf("%q, want %s", got, want)
		}
		for _, id := range []string{"edge-1", "edge-2"} {
			if s, err := g.Find(t.Context(), id); err != nil || !s.Connected {
				t.Errorf("%s: %+v, %v", id, s, err)
			}
		}
		if _, err := g.Find(t.Context(), "edge-9"); gatehouse.CodeOf(err) != gatehouse.CodeNotFound {
			t.Error(err)
		}
	}
}
