package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse/metering/billing"
	"github.com/rogpeppe/go-internal/testscript"
)

// TestBillingScripts runs the commands of billing as TestScripts does. INVOICE
// is the number of the first invoice, NOW an hour
// from now.
func TestBillingScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/billing",
		Setup: func(e *testscript.Env) error {
			home := filepath.Join(e.WorkDir, "home")
			now := time.Now().UTC()
			e.Setenv("HOME", home)
			e.Setenv("NOW", now.Add(time.Hour).Format(time.RFC3339))
			e.Setenv("INVOICE", billing.Number("GH", now.Year(), 1))
			return os.MkdirAll(home, 0o700)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"serve": serveScript,
			"exits": func(ts *testscript.TestScript, _ bool, args []string) {
				err := ts.Exec(args[1], args[2:]...)
				failed, ok := errors.AsType[*exec.ExitError](err)
				if !ok || strconv.Itoa(failed.ExitCode()) != args[0] {
					ts.Fatalf("want exit code %s, got %v", args[0], err)
				}
			},
		},
	})
}
