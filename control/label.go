package control

import (
	"slices"

	"github.com/gatehouse-gateway/gatehouse"
)

// refuseNew makes errors of the warnings about names for people, unless what
// is stored has the same ones: that was taken, and stays.
func refuseNew(faults gatehouse.Faults, bad, stored []gatehouse.BadLabel) gatehouse.Faults {
	for i := range faults {
		if !faults[i].Warning {
			continue
		}
		isNew := func(b gatehouse.BadLabel) bool {
			return b.Fault == faults[i] && !slices.ContainsFunc(stored, func(s gatehouse.BadLabel) bool { return s.Text == b.Text })
		}
		if slices.ContainsFunc(bad, isNew) {
			faults[i].Warning = false
		}
	}
	return faults
}

// labelFaults are those of the name of a token.
func labelFaults(name string) gatehouse.Faults {
	reason := gatehouse.LabelFault(name)
	if reason == "" {
		return nil
	}
	return gatehouse.Faults{{Pointer: "/name", Reason: "name " + reason}}
}
