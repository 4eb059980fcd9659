package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/configs"
	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

// billingFile is a document of prices or of costs, and where its values stand.
type billingFile struct {
	name   string
	source []byte
	raw    json.RawMessage // of source, as JSON
	// text has the places; nil where the document has maps, which have none.
	text *configs.Text
	// plan is the document of prices; nil of costs.
	plan *billing.Plan
}

// readSheet reads a document as JSON.
func (r *remote) readSheet(name string) (*billingFile, error) {
	source, err := readInput(r.s, name)
	if err != nil {
		return nil, &exit{exitUsage, fmt.Errorf("read %s: %w", name, err)}
	}
	f := &billingFile{name: name, source: source}
	if name == "-" {
		f.name = "standard input"
	}
	if _, problems := configs.Decode(f.name, f.source, &f.raw); len(problems) > 0 {
		return nil, problems
	}
	return f, nil
}

// readPrices reads a document of prices, which is sound: what is wrong with it
// is told with its place.
func (r *remote) readPrices(name, plan string) (*billingFile, error) {
	f, err := r.readSheet(name)
	if err != nil {
		return nil, err
	}
	f.plan = &billing.Plan{}
	if bytes.Contains(f.raw, []byte(`"limits":`)) { // of capacity tiers: a map, which has no places
		strict := json.NewDecoder(bytes.NewReader(f.raw))
		strict.DisallowUnknownFields()
		if err := strict.Decode(f.plan); err != nil {
			return nil, &exit{exitFindings, fmt.Errorf("%s: %w", f.name, err)}
		}
	} else {
		text, problems := configs.Decode(f.name, f.source, f.plan)
		if len(problems) > 0 {
			return nil, problems
		}
		f.text = text
	}
	f.plan.Version = max(f.plan.Version, 1)
	if f.plan.ID == "" {
		f.plan.ID = gatehouse.PlanID(plan)
	}
	if faults := f.plan.Validate().Errors(); len(faults) > 0 {
		return nil, f.problems(faults)
	}
	return f, nil
}

// problems gives faults the file that they are in and the path of their field:
// the place may be that of what is around it.
func (f *billingFile) problems(faults gatehouse.Faults) configs.Problems {
	var ps configs.Problems
	for _, fault := range faults {
		p := configs.Problem{Place: configs.Place{File: f.name}, Reason: fault.Reason, Hint: fault.Hint, Warning: fault.Warning}
		if f.text != nil {
			p = f.text.Locate(gatehouse.Faults{fault})[0]
		}
		if path := fieldPath(fault.Pointer); path != "" {
			p.Reason = path + ": " + p.Reason
		}
		ps = append(ps, p)
	}
	return ps
}

// located gives the faults that the control plane found in a document their
// file and field; other errors stay.
func (f *billingFile) located(err error) error {
	bad, ok := errors.AsType[gatehouse.Faults](err)
	if !ok || slices.ContainsFunc(bad, func(f gatehouse.Fault) bool { return strings.HasPrefix(f.Pointer, "/query/") }) {
		return err
	}
	return f.problems(bad)
}

// fieldPath writes a pointer as one writes a field: prices[0].tiers.
func fieldPath(pointer string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		part = strings.NewReplacer("~1", "/", "~0", "~").Replace(part)
		switch _, err := strconv.ParseUint(part, 10, 31); {
		case err == nil:
			b.WriteString("[" + part + "]")
			continue
		case b.Len() > 0:
			b.WriteByte('.')
		}
		b.WriteString(part)
	}
	return b.String()
}
