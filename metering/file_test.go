package metering

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/gatehouse-gateway/gatehouse"
)

// total returns what a new process reads from dir.
func total(t *testing.T, dir string) int64 {
	t.Helper()
	return open(t, dir).Usage("acme", noon).Total.Requests
}

func count(m *Meter, n int) {
	for range n {
		m.Tenant("acme").Series("r", []byte("ann")).Count(200, 0, 0, 0, 0)
	}
}

// What is flushed comes back as it was, whatever the names are.
func TestRoundTrip(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		if err := os.RemoveAll(filepath.Join(dir, "usage.json")); err != nil {
			rt.Fatal(err)
		}
		m := open(t, dir)
		who := rapid.OneOf(rapid.SliceOfN(rapid.Byte(), 0, 200), rapid.Map(rapid.String(), func(s string) []byte { return []byte(s) }))
		small := rapid.Int64Range(0, 1<<40)
		use := func(m *Meter) {
			for range rapid.IntRange(0, 20).Draw(rt, "n") {
				tenant := rapid.SampledFrom([]gatehouse.TenantID{"acme", "umbrella"}).Draw(rt, "tenant")
				route := rapid.SampledFrom([]gatehouse.RouteID{"a", "b", ""}).Draw(rt, "route")
				s := m.Tenant(tenant).Series(route, who.Draw(rt, "principal"))
				s.Count(rapid.IntRange(0, 700).Draw(rt, "status"), small.Draw(rt, "in"), small.Draw(rt, "out"), small.Draw(rt, "units"),
					time.Duration(small.Draw(rt, "us"))*time.Microsecond)
			}
		}
		use(m)
		for range 2 {
			before := asJSON(t, []Usage{m.Usage("acme", noon), m.Usage("umbrella", noon)})
			m.flush()
			if err := m.Health(); err != nil {
				rt.Fatal(err)
			}
			again := open(t, dir)
			if after := asJSON(t, []Usage{again.Usage("acme", noon), again.Usage("umbrella", noon)}); clean(after) != clean(before) {
				rt.Fatalf("got  %s\nwant %s", after, before)
			}
			m = again
			use(m) // also with the same principals, which must meet their series
		}
	})
}

// clean drops `since`, which a tenant without counts loses.
func clean(s string) string {
	for {
		head, rest, ok := strings.Cut(s, `"since":"`)
		if !ok {
			return s
		}
		_, rest, _ = strings.Cut(rest, `",`)
		s = head + rest
	}
}

// A principal that is kept by its hash meets its own series after a restart.
func TestHashedAfterRestart(t *testing.T) {
	dir := t.TempDir()
	long := []byte(strings.Repeat("x", 1000))
	for range 3 {
		m := open(t, dir)
		m.Tenant("acme").Series("r", long).Count(200, 0, 0, 0, 0)
		m.flush()
		if n := len(m.Tenant("acme").series); n != 1 {
			t.Errorf("%d series", n)
		}
	}
	u := open(t, dir).Usage("acme", noon)
	if len(u.Principals) != 1 || u.Principals[0].Requests != 3 {
		t.Errorf("got %+v", u.Principals)
	}
}

func TestRun(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		m := open(t, dir)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- m.Run(ctx) }()
		second := func() {
			<-time.After(time.Second) // of the bubble's clock
			synctest.Wait()
		}
		second()
		if _, err := os.Stat(filepath.Join(dir, "usage.json")); err == nil {
			t.Error("a flush without a count")
		}
		count(m, 3)
		second()
		first, err := os.Stat(filepath.Join(dir, "usage.json"))
		if err != nil || total(t, dir) != 3 {
			t.Fatalf("after one interval: %v", err)
		}
		second()
		if again, _ := os.Stat(filepath.Join(dir, "usage.json")); !os.SameFile(first, again) {
			t.Error("a second flush of the same counts")
		}
		count(m, 2)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if got := total(t, dir); got != 5 {
			t.Errorf("after the last flush there are %d, want 5", got)
		}
	})
}

func TestRunInMemory(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := open(t, "").Run(ctx); err != nil {
		t.Error(err)
	}
}

func TestOpenFaults(t *testing.T) {
	f := func(content, want string) {
		t.Helper()
		dir := t.TempDir()
		path := filepath.Join(dir, "usage.json")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(dir, 0)
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: got %v, want %s", content, err, want)
		}
		if b, _ := os.ReadFile(path); string(b) != content {
			t.Errorf("%.40q: the file was changed", content)
		}
	}
	whole := `{"version":1,"tenants":[{"id":"acme","since":"2026-03-05T12:00:00Z","series":[{"route":"r","requests":1}]}]}`
	f("", "EOF")
	f(whole[:len(whole)-1], "unexpected EOF")
	f(whole+"x", "text after the end")
	f(whole+whole, "text after the end")
	f(strings.Repeat("\x00", 100), "invalid character")
	f(strings.Replace(whole, "1", "2", 1), "version 2")
	f("{}", "version 0")
	f(strings.Replace(whole, `"requests":1`, `"requests":-1`, 1), "negative")
	f(strings.Replace(whole, `"requests":1`, `"requests":1.5`, 1), "1.5")
	f(strings.Replace(whole, "requests", "reqests", 1), "reqests")
	f(strings.Replace(whole, "acme", "", 1), "unnamed")
	f(`{"version":1,"tenants":[{"id":"a"},{"id":"a"}]}`, "twice")

	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(file, 0); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a file for a directory: %v", err)
	}
	block(t, filepath.Join(dir, "usage.json.tmp"))
	if _, err := Open(dir, 0); err == nil || !strings.Contains(err.Error(), "write usage directory") {
		t.Errorf("a directory that cannot be written: %v", err)
	}
}

func TestOpenMakesDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	open(t, dir)
	if fi, err := os.Stat(dir); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("got %v, %v", fi, err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("Open left %v", left)
	}
}

// block puts a directory where a file is to be written.
func block(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(path, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
}

// A flush that fails leaves the file as it was, is told, and is made up for.
func TestFlushFaults(t *testing.T) {
	f := func(name string, spoil, mend func(dir string), kept int64) {
		t.Helper()
		dir := t.TempDir()
		m := open(t, dir)
		count(m, 1)
		m.flush()
		spoil(dir)
		count(m, 1)
		m.flush()
		if m.Health() == nil {
			t.Errorf("%s: Health tells nothing", name)
		}
		if kept > 0 {
			b, err := os.ReadFile(filepath.Join(dir, "usage.json"))
			if err != nil {
				t.Fatal(err)
			}
			if snap, err := decode(b); err != nil || snap.Tenants[0].Series[0].Requests != kept {
				t.Errorf("%s: the file holds %s, %v", name, b, err)
			}
		}
		mend(dir)
		m.flush()
		if err := m.Health(); err != nil {
			t.Errorf("%s: still %v", name, err)
		}
		if got := total(t, dir); got != 2 {
			t.Errorf("%s: %d counted in the end, want 2", name, got)
		}
	}
	temp := func(dir string) string { return filepath.Join(dir, "usage.json.tmp") }
	usage := func(dir string) string { return filepath.Join(dir, "usage.json") }
	remove := func(path string) {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	f("the temporary file cannot be made",
		func(dir string) { block(t, temp(dir)) },
		func(dir string) { remove(temp(dir)) }, 1)
	f("nothing can be written to it",
		func(dir string) {
			if err := os.Symlink("/dev/full", temp(dir)); err != nil {
				t.Fatal(err)
			}
		},
		func(dir string) { remove(temp(dir)) }, 1)
	f("it cannot take the name",
		func(dir string) { remove(usage(dir)); block(t, usage(dir)) },
		func(dir string) { remove(usage(dir)) }, 0)
	f("the directory is gone",
		func(dir string) { remove(dir) },
		func(dir string) {
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
		}, 0)
}

// A flush that was cut short leaves half a temporary file: it is not read and
// not in the way.
func TestLeftover(t *testing.T) {
	dir := t.TempDir()
	m := open(t, dir)
	count(m, 2)
	m.flush()
	if err := os.WriteFile(filepath.Join(dir, "usage.json.tmp"), []byte(`{"version":1,"ten`), 0o600); err != nil {
		t.Fatal(err)
	}
	m = open(t, dir)
	count(m, 1)
	if err := os.WriteFile(filepath.Join(dir, "usage.json.tmp"), make([]byte, 1<<16), 0o600); err != nil {
		t.Fatal(err)
	}
	m.flush()
	if got := total(t, dir); got != 3 {
		t.Errorf("got %d, want 3", got)
	}
}

// A process killed at any moment leaves the last flush that it finished, or
// the one that it was in, whole.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	var before int64
	for round := range 6 {
		cmd := exec.Command(os.Args[0], killMe, dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		flushes := int64(0)
		killed := false
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if lines.Text() != "flushed" {
				t.Fatalf("the process says %s", lines.Text())
			}
			if flushes++; flushes > int64(7*round) && !killed {
				killed = true
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait() // killed
		m := open(t, dir)
		c := m.Usage("acme", noon).Total
		if done := c.Requests - before - flushes*perFlush; done != 0 && done != perFlush {
			t.Errorf("%d requests are kept of %d flushes after %d", c.Requests, flushes, before)
		}
		if c.BytesIn != c.Requests || c.BytesOut != 2*c.Requests || c.Units != unitsEach*c.Requests || c.Compute != c.Requests {
			t.Errorf("the counts of a request were torn: %+v", c)
		}
		before = c.Requests
	}
}
