package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts runs the command line as a shell does.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", Setup: scriptHome, Cmds: scriptCommands()})
}

// scriptHome gives a script a home of its own.
func scriptHome(e *testscript.Env) error {
	home := filepath.Join(e.WorkDir, "home")
	e.Setenv("HOME", home)
	return os.MkdirAll(home, 0o700)
}

// scriptCommands are those that scripts have beside testscript's own:
//
//	exits CODE COMMAND…   expects an exit code
//	tries COMMAND…        runs it, whatever comes of it
//	json [POINTER VALUE]  expects that standard output is one JSON value, and what is there
//	serve [ARGS]          runs a gateway, and sets GATEHOUSE_SERVER and GATEHOUSE_TOKEN for it, and GATEWAY to its data plane
//	secret JSON FILE      writes the secret of an answer to a file
//	private FILE          expects that only its owner can read it
func scriptCommands() map[string]func(*testscript.TestScript, bool, []string) {
	return map[string]func(*testscript.TestScript, bool, []string){
		"exits": func(ts *testscript.TestScript, _ bool, args []string) {
			err := ts.Exec(args[1], args[2:]...)
			failed, ok := errors.AsType[*exec.ExitError](err)
			if !ok || strconv.Itoa(failed.ExitCode()) != args[0] {
				ts.Fatalf("want exit code %s, got %v", args[0], err)
			}
		},
		"tries": func(ts *testscript.TestScript, _ bool, args []string) { _ = ts.Exec(args[0], args[1:]...) },
		"json": func(ts *testscript.TestScript, _ bool, args []string) {
			out := json.RawMessage(ts.ReadFile("stdout"))
			if !json.Valid(out) {
				ts.Fatalf("this is not one JSON value: %s", out)
			}
			if len(args) == 2 {
				if got := text(at(out, args[0])); got != args[1] {
					ts.Fatalf("%s is %q, not %q", args[0], got, args[1])
				}
			}
		},
		"serve": serveScript,
		"secret": func(ts *testscript.TestScript, _ bool, args []string) {
			var made struct{ Secret string }
			ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &made))
			ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(made.Secret+"\n"), 0o600))
		},
		"private": func(ts *testscript.TestScript, _ bool, args []string) {
			info, err := os.Stat(ts.MkAbs(args[0]))
			ts.Check(err)
			if info.Mode().Perm() != 0o600 {
				ts.Fatalf("%s has mode %o", args[0], info.Mode().Perm())
			}
		},
	}
}

var servingLine = regexp.MustCompile(`msg=serving .*data_plane=(\S+) control=(\S+)`)

func serveScript(ts *testscript.TestScript, _ bool, args []string) {
	data := ts.MkAbs("data")
	cmd := exec.Command(os.Args[0], append([]string{"run", "--data", data, "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"}, args...)...)
	cmd.Env = append(os.Environ(), "GATEHOUSE_TEST_MAIN=1")
	out := newLines()
	cmd.Stdout, cmd.Stderr = newLines(), out
	ts.Check(cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	ts.Defer(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		<-ended                                 //nolint:errcheck // the script is over
	})
	limit := time.After(time.Minute)
	for !servingLine.MatchString(out.String()) {
		select {
		case <-out.news:
		case err := <-ended:
			ended <- err
			ts.Fatalf("ended: %v\n%s", err, out)
		case <-limit:
			ts.Fatalf("does not serve\n%s", out)
		}
	}
	at := servingLine.FindStringSubmatch(out.String())
	ts.Setenv("GATEWAY", at[1])
	ts.Setenv("GATEHOUSE_SERVER", "http://"+at[2])
	token, err := os.ReadFile(filepath.Join(data, bootstrapFile))
	ts.Check(err)
	ts.Setenv("GATEHOUSE_TOKEN", strings.TrimSpace(string(token)))
}
