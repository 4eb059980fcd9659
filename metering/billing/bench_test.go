package billing_test

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

var manyCells = flag.Int("cells", 200_000, "cells that BenchmarkRateCells rates; 10000000 is the long form")

// BenchmarkRateCells rates a month of cells of many tenants, 10,000 cells
// each, into one invoice a tenant: folded, hashed, aggregated, priced, summed.
// The cells of one tenant are in memory at a time, as a ledger would give them.
func BenchmarkRateCells(b *testing.B) {
	const each = 10_000
	p := plan(b, premium)
	books := book(p)
	cells := make([]metering.Cell, each)
	for i := range cells {
		cells[i] = cell("2026-01-01T00:00:00Z", "requests", int64(i%97))
		cells[i].Window = cells[i].Window.Add(time.Duration(i*4) * time.Minute)
	}
	b.ReportAllocs()
	for b.Loop() {
		for t := range max(*manyCells/each, 1) {
			sub := &billing.Subscription{ID: fmt.Sprint("s", t), Tenant: gatehouse.TenantID(fmt.Sprint("tenant", t)), Plan: p.Ref(), Start: at("2026-01-01T00:00:00Z")}
			for i := range cells {
				cells[i].Series.Tenant = sub.Tenant
			}
			if inv := draft(b, billing.Run{Book: books, Subscription: sub, Cells: cells}); inv.Lines[0].Trace.Cells != each {
				b.Fatalf("%d cells were rated", inv.Lines[0].Trace.Cells)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(max(*manyCells/each, 1)*each), "ns/cell")
}

// BenchmarkFoldShuffled folds cells that are in no order.
func BenchmarkFoldShuffled(b *testing.B) {
	cells := make([]metering.Cell, 10_000)
	for i := range cells {
		cells[i] = cell("2026-01-01T00:00:00Z", "requests", 1)
		cells[i].Window = cells[i].Window.Add(time.Duration(i*7919%10_000) * time.Minute)
	}
	b.ReportAllocs()
	for b.Loop() {
		billing.Fold(cells)
	}
}

// BenchmarkRatePrice rates one quantity by a graduated price of four tiers.
func BenchmarkRatePrice(b *testing.B) {
	p := billing.Price{Model: billing.Graduated, Tiers: []billing.Tier{
		{UpTo: ptr(dec("1000")), UnitPrice: dec("0.01")}, {UpTo: ptr(dec("10000")), UnitPrice: dec("0.008")}, {UpTo: ptr(dec("100000")), UnitPrice: dec("0.005")}, {UnitPrice: dec("0.001")},
	}}
	u := billing.Usage{Quantity: dec("1234567")}
	b.ReportAllocs()
	for b.Loop() {
		p.Due("EUR", billing.HalfUp, u, billing.Decimal{}, true, billing.Int(1))
	}
}
