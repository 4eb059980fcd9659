package main

import (
	"bytes"
	"net"
	"path/filepath"
	"strings"
	"testing"
)

// The first start says how the command line finds it, wherever its data is:
// the printed command is all that it takes.
func TestFirstStart(t *testing.T) {
	folder := t.TempDir()
	p := start(t, storeArgs(t, filepath.Join(folder, "data of mine"))...)
	told := p.await(p.stderr, `(?m)^For the command line to find it, once:\n\n  gatehouse (context add local --server \S+ --token-file) '(.*)'$`)
	home := func(name string) string { return map[string]string{"HOME": folder}[name] }
	for _, args := range [][]string{append(strings.Fields(told[1]), told[2]), {"token", "list", "-o", "name"}} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), args, home, strings.NewReader(""), &out, &errs); code != exitOK || args[0] == "token" && out.String() != bootstrapID+"\n" {
			t.Errorf("%s: %d\n%s%s", args, code, out.String(), errs.String())
		}
	}
}

// An address that is taken ends a start before anything is made.
func TestAddressInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	data := filepath.Join(t.TempDir(), "data")
	for _, args := range [][]string{
		{"--listen", taken.Addr().String(), "--control", "127.0.0.1:0"},
		{"--listen", "127.0.0.1:0", "--control", taken.Addr().String(), "--takeover"},
		{"--roles", "control", "--control", taken.Addr().String()},
	} {
		var out, errs bytes.Buffer
		code := run(t.Context(), append([]string{"run", "--data", data}, args...), noEnvironment, strings.NewReader(""), &out, &errs)
		if code != exitError || !strings.Contains(errs.String(), "address already in use\n  hint: another process listens there") || !isNew(data) {
			t.Errorf("%s: %d\n%s", args, code, errs.String())
		}
	}
}

// A data folder that a process has left behind, however it ended, is no
// obstacle to the next.
func TestLockLeftBehind(t *testing.T) {
	data := t.TempDir()
	write(t, filepath.Join(data, "lock"), "4711\n")
	for range 2 {
		p := start(t, storeArgs(t, data)...)
		if err := p.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		p.exits(-1)
	}
}

// Where a start is the default one, the folder is enough.
func TestHowToReach(t *testing.T) {
	t.Chdir(t.TempDir())
	f := func(cfg config, at, want string) {
		t.Helper()
		if got := howToReach(&cfg, address(at)); !strings.HasPrefix(got, want) || !strings.Contains(got, "--token-file /") {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
	plain := defaultConfig()
	f(plain, "127.0.0.1:9090", "The command line finds it by itself in this folder.")
	f(plain, "127.0.0.1:9091", "For the command line to find it, once:\n\n  gatehouse context add local --server http://127.0.0.1:9091 ")
	secure := plain
	secure.Control.TLS.Cert = "x.crt"
	f(secure, "[::]:9090", "For the command line to find it, once:\n\n  gatehouse context add local --server https://NAME:9090 ")
}

// address is a listener's.
type address string

func (address) Network() string  { return "tcp" }
func (a address) String() string { return string(a) }
