package metering

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// totals is totals.json: the usage of cells that are in no log any more. It
// says of which windows, so that none is counted twice whenever the process
// ends between its writing and the removal of a log.
type totals struct {
	Version int `json:"version"`
	// Counter is the highest of all epochs.
	Counter uint32 `json:"counter"`
	// Through is the last window of an epoch whose cells are in Tenants.
	Through map[string]uint32 `json:"through,omitempty"`
	Tenants []tenantTotals    `json:"tenants,omitempty"`
}

type tenantTotals struct {
	ID     gatehouse.TenantID `json:"id"`
	Since  time.Time          `json:"since"`
	Series []seriesTotals     `json:"series"`
}

type seriesTotals struct {
	Route    gatehouse.RouteID `json:"route,omitempty"`
	Consumer string            `json:"consumer,omitempty"`
	Plan     gatehouse.PlanID  `json:"plan,omitempty"`
	Unit     string            `json:"unit,omitempty"`
	Values   values            `json:"values"`
}

func (s *seriesTotals) key(tenant gatehouse.TenantID) SeriesKey {
	return SeriesKey{Tenant: tenant, Route: s.Route, Consumer: s.Consumer, Plan: s.Plan, unit: s.Unit}
}

const totalsVersion = 1

// whole is the end of an epoch that is in the totals with all its windows.
const whole = ^uint32(0)

func totalsPath(folder string) string { return filepath.Join(folder, "totals.json") }

func readTotals(folder string) (*totals, error) {
	t := &totals{Version: totalsVersion, Through: map[string]uint32{}}
	b, err := os.ReadFile(totalsPath(folder))
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	if err == nil {
		err = json.Unmarshal(b, t)
	}
	if err == nil && t.Version != totalsVersion {
		err = fmt.Errorf("version %d is not known", t.Version)
	}
	if err != nil {
		return nil, fmt.Errorf("read usage %s: %w", totalsPath(folder), err)
	}
	return t, nil
}

func (t *totals) write(d disk, folder string) error {
	b, err := json.Marshal(t)
	if err == nil {
		err = replace(d, totalsPath(folder), append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write usage %s: %w", totalsPath(folder), err)
	}
	return nil
}

// history is usage by series, and since when there is any.
type history struct {
	sums  map[SeriesKey]*values
	since map[gatehouse.TenantID]time.Time
}

func newHistory() *history {
	return &history{map[SeriesKey]*values{}, map[gatehouse.TenantID]time.Time{}}
}

func (h *history) add(k SeriesKey, v *values) {
	if h.sums[k] == nil {
		h.sums[k] = new(values)
	}
	h.sums[k].add(v)
}

func (h *history) begin(id gatehouse.TenantID, t time.Time) {
	if old, ok := h.since[id]; !ok || t.Before(old) {
		h.since[id] = t
	}
}

func (h *history) clone() *history {
	c := newHistory()
	for k, v := range h.sums {
		c.add(k, v)
	}
	maps.Copy(c.since, h.since)
	return c
}

// fold adds what a log comes to.
func (h *history) fold(f *fold) {
	for k, v := range f.sums {
		h.add(k, v)
	}
	for id, w := range f.since {
		h.begin(id, windowTime(w))
	}
}

// add adds the totals to h.
func (t *totals) add(h *history) {
	for i := range t.Tenants {
		tt := &t.Tenants[i]
		h.begin(tt.ID, tt.Since)
		for j := range tt.Series {
			s := &tt.Series[j]
			h.add(s.key(tt.ID), &s.Values)
		}
	}
}

// set makes h the usage of the totals.
func (t *totals) set(h *history) {
	byTenant := map[gatehouse.TenantID][]seriesTotals{}
	for k, v := range h.sums {
		byTenant[k.Tenant] = append(byTenant[k.Tenant], seriesTotals{k.Route, k.Consumer, k.Plan, k.unit, *v})
	}
	t.Tenants = t.Tenants[:0]
	for _, id := range slices.Sorted(maps.Keys(byTenant)) {
		list := byTenant[id]
		slices.SortFunc(list, func(a, b seriesTotals) int {
			if c := strings.Compare(string(a.Route), string(b.Route)); c != 0 {
				return c
			}
			if c := strings.Compare(string(a.Plan), string(b.Plan)); c != 0 {
				return c
			}
			if c := strings.Compare(a.Consumer, b.Consumer); c != 0 {
				return c
			}
			return strings.Compare(a.Unit, b.Unit)
		})
		t.Tenants = append(t.Tenants, tenantTotals{id, h.since[id], list})
	}
}
