package ratelimit_test

import (
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/ratelimit"
	"github.com/gatehouse-gateway/gatehouse/ratelimit/ratelimittest"
)

func TestConformance(t *testing.T) {
	ratelimittest.Test(t, func(_ testing.TB, tenant gatehouse.TenantID) *ratelimit.Local { return ratelimit.NewLocal(tenant, 0) })
}
