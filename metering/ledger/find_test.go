package ledger

import (
	"database/sql"
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
)

// TestTenantCellsFindsAll writes cells and events of three tenants at random
// minutes, in any order and again, and holds that a tenant's are found: all of
// them, none besides, in any range. Rows of a ledger from before 00002 have
// all bits, and are found as well.
func TestTenantCellsFindsAll(t *testing.T) {
	onBoth(t, func(t *testing.T, l *Ledger) {
		random := rand.New(rand.NewSource(3))
		start := at("2027-01-30 00:00")
		wrote := map[string]metering.Cell{}
		for n := range 12 {
			var b metering.Batch
			for range 80 {
				c := cell("2027-01-30 00:00", gatehouse.TenantID(fmt.Sprint("t", random.Intn(3))), gatehouse.RouteID(fmt.Sprint("r", random.Intn(2))), []string{"requests", "bytes_in"}[random.Intn(2)], random.Int63n(9))
				c.Window = start.Add(time.Duration(random.Intn(4*minutesPerDay)) * time.Minute)
				b.Cells = append(b.Cells, c)
				key := show1(c, false)
				if have, ok := wrote[key]; !ok || have.Value < c.Value {
					wrote[key] = c
				}
			}
			write(t, l, b.Cells)
			if n%4 == 0 {
				write(t, l, b.Cells[:20])
			}
			e := Event{Source: "s", ID: fmt.Sprint(n), Meter: "requests", Tenant: "t1", Time: start.Add(time.Duration(random.Intn(48)) * time.Hour), Value: "3"}
			if _, err := l.Record(t.Context(), []Event{e}); err != nil {
				t.Fatal(err)
			}
			c := metering.Cell{Gateway: FromEvents, Window: e.Time, Meter: e.Meter, Value: 3, Series: metering.SeriesKey{Tenant: "t1"}}
			c.Value += wrote[show1(c, false)].Value
			wrote[show1(c, false)] = c
		}
		compare := func() {
			t.Helper()
			for n := range 30 {
				tenant := gatehouse.TenantID(fmt.Sprint("t", n%3))
				from := start.Add(time.Duration(random.Intn(3*minutesPerDay)) * time.Minute)
				to := from.Add(time.Duration(1+random.Intn(2*minutesPerDay)) * time.Minute)
				var got, want []string
				for c, err := range l.TenantCells(t.Context(), tenant, from, to) {
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, show1(c, true))
				}
				for _, c := range wrote {
					if c.Series.Tenant == tenant && !c.Window.Before(from) && c.Window.Before(to) {
						want = append(want, show1(c, true))
					}
				}
				slices.Sort(got)
				slices.Sort(want)
				if !slices.Equal(got, want) {
					t.Fatalf("%s from %s to %s: got\n%s\nwant\n%s", tenant, from, to, strings.Join(got, "\n"), strings.Join(want, "\n"))
				}
			}
		}
		compare()
		sound(t, l)
		err := l.change(t.Context(), func(tx *sql.Tx) error {
			if _, err := tx.Exec("UPDATE metering_hour SET minutes = 1152921504606846975"); err != nil {
				return err
			}
			_, err := tx.Exec("UPDATE metering_day SET hours = 16777215")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		compare()
	})
}

func show1(c metering.Cell, value bool) string {
	s := fmt.Sprint(c.Gateway, c.Epoch, c.Window.Format(time.RFC3339), c.Series, c.Meter)
	if value {
		s += fmt.Sprint(" ", c.Value)
	}
	return s
}
