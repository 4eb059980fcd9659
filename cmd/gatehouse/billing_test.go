package main

import (
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse/metering/billing"
	"github.com/rogpeppe/go-internal/testscript"
)

// TestBillingScripts runs the commands of billing as TestScripts does. INVOICE
// is the number of the first invoice, NOW an hour from now.
func TestBillingScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/billing", Cmds: scriptCommands(),
		Setup: func(e *testscript.Env) error {
			now := time.Now().UTC()
			e.Setenv("NOW", now.Add(time.Hour).Format(time.RFC3339))
			e.Setenv("INVOICE", billing.Number("GH", now.Year(), 1))
			return scriptHome(e)
		},
	})
}
