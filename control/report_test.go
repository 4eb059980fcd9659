package control_test

import (
	"fmt"
	"testing"
	"time"

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
