package control

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
)

// TimeCount is how many requests, Count, took at most Micros microseconds, and
// longer than the bucket before. Sources must agree on the bounds.
type TimeCount struct {
	Micros int64 `json:"us"`
	Count  int64 `json:"n"`
}

// Minute is what requests of one kind came to within a minute.
type Minute struct {
	Tenant gatehouse.TenantID `json:"tenant"`
	// Route is empty for requests that no route took.
	Route gatehouse.RouteID `json:"route,omitempty"`
	// At is in the minute.
	At time.Time `json:"at"`
	// Method is that of HTTP, as GET.
	Method string `json:"method"`
	// Class is the first digit of the status; 0: the client had gone.
	Class int `json:"class"`
	// Requests counts all of them; Denied were answered by the gateway instead
	// of a backend, Limited by a limit. BytesIn and BytesOut are of bodies.
	Requests int64 `json:"requests"`
	Denied   int64 `json:"denied,omitempty"`
	Limited  int64 `json:"limited,omitempty"`
	BytesIn  int64 `json:"bytes_in,omitempty"`
	BytesOut int64 `json:"bytes_out,omitempty"`

	Times []TimeCount `json:"times"`
}

// Source is a data plane in one life of its process. What it reports is
// numbered from 1, and taken in order: what comes again is known by its number.
type Source struct {
	// Gateway is the name of the data plane, as its credential has it.
	Gateway string `json:"-"`
	// Epoch names the life of its process: another one after each start.
	Epoch string `json:"epoch"`
}

// TrafficReport is traffic at a data plane.
type TrafficReport struct {
	Source
	// First is the number of the first of Minutes; those after it follow on.
	First   uint64   `json:"first"`
	Minutes []Minute `json:"minutes"`
}

// Bounds of a report.
const (
	// MaxReported is how many minutes, cells or seals one holds at most.
	MaxReported = 2000
	maxName     = 256
	// maxNumber is the first that no minute has: the numbers below it are the
	// same in JSON, in SQL and here.
	maxNumber = 1 << 53
	// ahead is how far a data plane's clock may be before ours.
	ahead = time.Hour
)

// Validate refuses what no data plane of ours would send, with CodeInvalid.
func (r *TrafficReport) Validate(now time.Time) error {
	refuse := func(i int, what string) error {
		return &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: fmt.Sprintf("minute %d: %s", i, what)}
	}
	if r.Gateway == "" || r.Epoch == "" || len(r.Epoch) > maxName || r.First == 0 || len(r.Minutes) > MaxReported || r.First > maxNumber-uint64(max(len(r.Minutes), 1)) {
		return &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: fmt.Sprintf("a report has an epoch, the number of its first minute below 2^53, and at most %d of them", MaxReported)}
	}
	for i := range r.Minutes {
		m := &r.Minutes[i]
		switch {
		case m.Tenant == "" || !plainName(string(m.Tenant)) || !plainName(string(m.Route)) || m.Method == "" || !plainName(m.Method):
			return refuse(i, "tenant, route or method is not a name")
		case m.Class < 0 || m.Class > 5:
			return refuse(i, "class is not that of a status")
		case min(m.Requests, m.Denied, m.Limited, m.BytesIn, m.BytesOut) < 0:
			return refuse(i, "a count is negative")
		case m.At.Year() < 2000 || m.At.After(now.Add(ahead)):
			return refuse(i, "the time is not one of now or before")
		}
		for _, t := range m.Times {
			if t.Micros < 0 || t.Count < 0 {
				return refuse(i, "a time is negative")
			}
		}
	}
	return nil
}

func plainName(s string) bool {
	return len(s) <= maxName && strings.ToValidUTF8(s, "") == s && !strings.ContainsRune(s, 0)
}

// UsageReport is usage that a data plane has counted, on its way to the
// ledger. It may come again.
type UsageReport struct {
	Cells []UsageCell `json:"cells"`
	// Seals are of minutes whose cells are all in this report or came before.
	Seals []UsageSeal `json:"seals,omitempty"`
}

// UsageCell is a metering.Cell.
type UsageCell struct {
	// Gateway is the name of the data folder, which need not be that of the
	// data plane.
	Gateway string `json:"gateway"`
	// Epoch is the life of its process that counted.
	Epoch string `json:"epoch"`
	// Window is the start of the minute.
	Window time.Time          `json:"window"`
	Tenant gatehouse.TenantID `json:"tenant"`
	Route  gatehouse.RouteID  `json:"route,omitempty"`
	// Consumer is the id of the principal, or its hash; empty for anonymous
	// callers.
	Consumer string           `json:"consumer,omitempty"`
	Plan     gatehouse.PlanID `json:"plan,omitempty"`
	// Meter is what was counted, as requests or bytes_out.
	Meter string `json:"meter"`
	// Value is what the minute came to so far; of units, in millionths.
	Value int64 `json:"value,string"`
}

// UsageSeal is a metering.Seal: the data folder Gateway in its life Epoch will
// report no more of Window, the start of a minute, or of those before it. Final
// says that the life has ended.
type UsageSeal struct {
	Gateway string    `json:"gateway"`
	Epoch   string    `json:"epoch"`
	Window  time.Time `json:"window"`
	Final   bool      `json:"final,omitempty"`
}

// UsageReports are a batch in reports of at most MaxReported cells and as many
// seals. Seals come after all cells.
func UsageReports(b metering.Batch) []UsageReport {
	out := []UsageReport{{Cells: []UsageCell{}}}
	for i := range b.Cells {
		c := &b.Cells[i]
		last := &out[len(out)-1]
		if len(last.Cells) == MaxReported {
			out = append(out, UsageReport{})
			last = &out[len(out)-1]
		}
		last.Cells = append(last.Cells, UsageCell{
			Gateway: c.Gateway, Epoch: c.Epoch.String(), Window: c.Window, Tenant: c.Series.Tenant, Route: c.Series.Route,
			Consumer: c.Series.Consumer, Plan: c.Series.Plan, Meter: c.Meter, Value: c.Value,
		})
	}
	for _, s := range b.Seals {
		last := &out[len(out)-1]
		if len(last.Seals) == MaxReported {
			out = append(out, UsageReport{Cells: []UsageCell{}})
			last = &out[len(out)-1]
		}
		last.Seals = append(last.Seals, UsageSeal{s.Gateway, s.Epoch.String(), s.Window, s.Final})
	}
	return out
}

// Batch is the report as the ledger takes it. An epoch that is none is
// CodeInvalid.
func (r *UsageReport) Batch() (metering.Batch, error) {
	var b metering.Batch
	if len(r.Cells) > MaxReported || len(r.Seals) > MaxReported {
		return b, &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: fmt.Sprintf("a report holds at most %d cells and as many seals", MaxReported)}
	}
	for i := range r.Cells {
		c := &r.Cells[i]
		epoch, err := parseEpoch(c.Epoch)
		if err != nil {
			return b, err
		}
		b.Cells = append(b.Cells, metering.Cell{
			Gateway: c.Gateway, Epoch: epoch, Window: c.Window.UTC(), Meter: c.Meter, Value: c.Value,
			Series: metering.SeriesKey{Tenant: c.Tenant, Route: c.Route, Consumer: c.Consumer, Plan: c.Plan},
		})
	}
	for _, s := range r.Seals {
		epoch, err := parseEpoch(s.Epoch)
		if err != nil {
			return b, err
		}
		b.Seals = append(b.Seals, metering.Seal{Gateway: s.Gateway, Epoch: epoch, Window: s.Window.UTC(), Final: s.Final})
	}
	return b, nil
}

// parseEpoch reads what metering.Epoch writes.
func parseEpoch(text string) (metering.Epoch, error) {
	counter, nonce, _ := strings.Cut(text, "-")
	n, err := strconv.ParseUint(counter, 10, 32)
	if err == nil {
		var r uint64
		if r, err = strconv.ParseUint(nonce, 16, 64); err == nil {
			return metering.Epoch{Counter: uint32(n), Nonce: r}, nil
		}
	}
	return metering.Epoch{}, &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: "an epoch is a counter and a nonce, such as 7-00c0ffee00c0ffee", Err: err}
}
