package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/big"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
)

// Source is another account of usage: a sink, another ledger, a client's own
// log.
type Source interface {
	Name() string
	// Cells returns amounts that count in [from, to), in any order; each
	// adds to the sums of its tenant, route, meter and window. It ends with an
	// error if one comes.
	Cells(ctx context.Context, from, to time.Time) iter.Seq2[metering.Cell, error]
}

// Scope is what Reconcile compares.
type Scope struct {
	Meter string
	// From and To are whole minutes; To is not in the range.
	From, To time.Time
	// Step is Minute or Hour, in UTC. A client counts when it has read an
	// answer and a gateway when it begins one: around the end of a minute
	// their minutes differ.
	Step Window
	// Tenants are compared; absent: all.
	Tenants []gatehouse.TenantID
}

// Report is the outcome of Reconcile.
type Report struct {
	Scope
	// Sources are the names of what was compared, the ledger's first.
	Sources []string
	// Totals are of the whole range, one for each source.
	Totals []Quantity
	// Differences are where not all sources agree, by tenant, route and start,
	// at most MaxDifferences of them.
	Differences []Difference
	// More is how many there are beyond those.
	More int
}

// Difference is one place where the sources do not agree.
type Difference struct {
	Tenant gatehouse.TenantID
	Route  gatehouse.RouteID
	Start  time.Time
	// Values are in the order of Report.Sources.
	Values []Quantity
}

// MaxDifferences bounds Report.Differences.
const MaxDifferences = 10_000

// maxPlaces bounds the tenants × routes × steps that are compared at once.
const maxPlaces = 2_000_000

type place struct {
	tenant gatehouse.TenantID
	route  gatehouse.RouteID
	start  int64 // Unix time in minutes
}

// Reconcile compares the cells of the ledger with other accounts of them.
// Events and adjustments are not compared: no gateway has counted them.
func (l *Ledger) Reconcile(ctx context.Context, s Scope, others ...Source) (Report, error) {
	if s.Step != Minute && s.Step != Hour || s.Meter == "" || !s.From.Before(s.To) || whole(s.From) != nil || whole(s.To) != nil {
		return Report{}, &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: "a comparison has a meter, a range of whole minutes, and steps of MINUTE or HOUR"}
	}
	step := int64(1)
	if s.Step == Hour {
		step = minutesPerHour
	}
	sources := append([]Source{l}, others...)
	r := Report{Scope: s, Differences: []Difference{}}
	totals := make([]big.Int, len(sources))
	sums := map[place][]big.Int{}
	for i, source := range sources {
		r.Sources = append(r.Sources, source.Name())
		for c, err := range source.Cells(ctx, s.From, s.To) {
			if err != nil {
				return Report{}, fmt.Errorf("reconcile with %s: %w", source.Name(), err)
			}
			if c.Meter != s.Meter || c.Window.Before(s.From) || !c.Window.Before(s.To) ||
				len(s.Tenants) > 0 && !slices.Contains(s.Tenants, c.Series.Tenant) {
				continue
			}
			p := place{c.Series.Tenant, c.Series.Route, c.Window.Unix() / 60 / step * step}
			if sums[p] == nil {
				if len(sums) == maxPlaces {
					return Report{}, errors.New("reconcile: the range has too many tenants, routes and steps: take a shorter one")
				}
				sums[p] = make([]big.Int, len(sources))
			}
			v := big.NewInt(c.Value)
			sums[p][i].Add(&sums[p][i], v)
			totals[i].Add(&totals[i], v)
		}
	}
	r.Totals = amounts(s.Meter, totals)
	for p, values := range sums {
		if slices.ContainsFunc(values, func(v big.Int) bool { return v.Cmp(&values[0]) != 0 }) {
			r.Differences = append(r.Differences, Difference{p.tenant, p.route, timeOf(p.start), amounts(s.Meter, values)})
		}
	}
	slices.SortFunc(r.Differences, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Route, b.Route), a.Start.Compare(b.Start))
	})
	if n := len(r.Differences) - MaxDifferences; n > 0 {
		r.Differences, r.More = r.Differences[:MaxDifferences], n
	}
	return r, nil
}

func amounts(meter string, values []big.Int) []Quantity {
	out := make([]Quantity, len(values))
	for i := range values {
		out[i].decimals = metering.Decimals(meter)
		out[i].base.Set(&values[i])
	}
	return out
}

// Agree reports whether there is no difference.
func (r *Report) Agree() bool { return len(r.Differences) == 0 }

// WriteTable writes the differences and the totals as a table for people.
func (r *Report) WriteTable(w io.Writer) error {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(out, "tenant\troute\tstart")
	for _, name := range r.Sources {
		fmt.Fprint(out, "\t", name)
	}
	fmt.Fprintln(out)
	for _, d := range r.Differences {
		fmt.Fprintf(out, "%s\t%s\t%s", d.Tenant, d.Route, d.Start.Format(time.RFC3339))
		for i := range d.Values {
			fmt.Fprint(out, "\t", d.Values[i].String())
		}
		fmt.Fprintln(out)
	}
	if r.More > 0 {
		fmt.Fprintf(out, "and %d more\n", r.More)
	}
	fmt.Fprintf(out, "total\t\t%s", r.Meter)
	for i := range r.Totals {
		fmt.Fprint(out, "\t", r.Totals[i].String())
	}
	fmt.Fprintln(out)
	return out.Flush()
}
