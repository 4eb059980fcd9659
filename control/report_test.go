package control_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/metering"
)

// A batch of any size comes in reports that the other side takes, nothing of it
// twice, and no seal before a cell.
func TestUsageReports(t *testing.T) {
	for _, size := range [][2]int{{0, 0}, {0, 1}, {1, 0}, {1, control.MaxReported + 1}, {control.MaxReported, 1}, {5000, 5000}} {
		var b metering.Batch
		for i := range size[0] {
			b.Cells = append(b.Cells, metering.Cell{Gateway: "g", Meter: fmt.Sprint(i), Value: 1})
		}
		for i := range size[1] {
			b.Seals = append(b.Seals, metering.Seal{Gateway: "g", Window: time.Unix(int64(60*i), 0).UTC()})
		}
		var got metering.Batch
		for i, r := range control.UsageReports(b) {
			some, err := r.Batch()
			if err != nil {
				t.Fatalf("%v: report %d: %v", size, i, err)
			}
			if len(some.Cells) > 0 && len(got.Seals) > 0 {
				t.Errorf("%v: report %d has cells after a seal", size, i)
			}
			got.Cells, got.Seals = append(got.Cells, some.Cells...), append(got.Seals, some.Seals...)
		}
		if len(got.Cells) != size[0] || len(got.Seals) != size[1] {
			t.Errorf("%v: %d cells and %d seals", size, len(got.Cells), len(got.Seals))
		}
		for i := range got.Cells {
			if got.Cells[i].Meter != b.Cells[i].Meter {
				t.Fatalf("%v: cell %d is %s", size, i, got.Cells[i].Meter)
			}
		}
		for i := range got.Seals {
			if got.Seals[i] != b.Seals[i] {
				t.Fatalf("%v: seal %d is %v", size, i, got.Seals[i])
			}
		}
	}
}

// The numbers of minutes are such as every store and client can hold.
func TestTrafficNumbers(t *testing.T) {
	now := time.Now()
	for first, want := range map[uint64]gatehouse.Code{
		0: gatehouse.CodeInvalid, 1: "", 1<<53 - 1: "", 1 << 53: gatehouse.CodeInvalid, 1<<63 - 1: gatehouse.CodeInvalid, math.MaxUint64: gatehouse.CodeInvalid,
	} {
		r := control.TrafficReport{Source: control.Source{Gateway: "g", Epoch: "e"}, First: first, Minutes: []control.Minute{{Tenant: "a", At: now, Method: "GET"}}}
		if got := gatehouse.CodeOf(r.Validate(now)); r.Validate(now) == nil && want != "" || r.Validate(now) != nil && got != want {
			t.Errorf("first %d: %q, want %q", first, got, want)
		}
	}
}

// Health names the data planes that are not asked, as those that follow
// another control plane now.
func TestHealthOfThoseGone(t *testing.T) {
	g := control.NewGateways(time.Now, "", nil)
	end := g.Connect("edge-1", "v", "")
	end()
	g.Connect(control.LocalGateway, "v", "")
	all := g.Health(t.Context(), "a")
	if len(all) != 1 || all[0].Gateway != "edge-1" || all[0].Status != "unknown" || all[0].Problem == "" {
		t.Errorf("%+v", all)
	}
	if m := control.MergeHealth(all); m.Status != "unknown" {
		t.Errorf("%+v", m)
	}
}
