package redis

import (
	"context"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/ratelimit"
	"github.com/gatehouse-gateway/gatehouse/ratelimit/ratelimittest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// gateway is one of several that share a Redis: a store and what it holds.
type gateway struct {
	store  *Store
	shared *ratelimit.Shared
	stop   func() // gives back and closes; safe to call twice
}

// open starts a gateway that ends with the test.
func open(t testing.TB, o Options, mode gatehouse.LimitStore) *gateway {
	t.Helper()
	return several(t, o, mode, 1)[0]
}

// several starts n gateways that are alike.
func several(t testing.TB, o Options, mode gatehouse.LimitStore, n int) (gs []*gateway) {
	t.Helper()
	for range n {
		gs = append(gs, start(t, o, mode))
	}
	for _, g := range gs {
		if mode == gatehouse.StoreLease {
			become(t, "units are taken ahead", func() bool { return g.store.Settled() || g.store.Away(0) })
		}
	}
	return gs
}

func start(t testing.TB, o Options, mode gatehouse.LimitStore) *gateway {
	t.Helper()
	if o.Wait == 0 {
		o.Wait = 2 * time.Second // the machine of a test may be busy
	}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{store: s, shared: ratelimit.NewShared(s, mode)}
	ctx, cancel := context.WithCancel(context.Background())
	ctxShared, cancelShared := context.WithCancel(context.Background())
	var wg, wgShared sync.WaitGroup
	wg.Go(func() { _ = s.Run(ctx) })
	wgShared.Go(func() { _ = g.shared.Run(ctxShared) })
	g.stop = sync.OnceFunc(func() {
		cancelShared()
		wgShared.Wait()
		cancel()
		wg.Wait()
		_ = s.Close()
	})
	t.Cleanup(g.stop)
	return g
}

func TestConformance(t *testing.T) {
	t.Parallel()
	for _, mode := range []gatehouse.LimitStore{gatehouse.StoreExact, gatehouse.StoreLease} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			g := open(t, Options{URL: ratelimittest.Single(t).URL}, mode)
			ratelimittest.Test(t, func(_ testing.TB, tenant gatehouse.TenantID) *ratelimit.Local {
				return g.shared.Local(tenant, 0)
			})
		})
	}
}
