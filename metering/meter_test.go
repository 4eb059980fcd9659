package metering

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gatehouse-gateway/gatehouse"
)

// clean drops what restarts make less exact: `since`, to the minute.
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

// What processes count one after the other, however each of them ends, is as
// if one had counted all of it.
func TestRestarts(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := newBench(t)
		one := memory(t)
		who := rapid.OneOf(rapid.SampledFrom([][]byte{[]byte("ann"), []byte("bob"), []byte("\n"), nil, []byte(Overflow)}), rapid.SliceOfN(rapid.Byte(), 0, 40))
		small := rapid.Int64Range(0, 1<<40)
		use := func(ms ...*Meter) {
			for range rapid.IntRange(0, 6).Draw(rt, "n") {
				tenant := rapid.SampledFrom([]gatehouse.TenantID{"acme", "umbrella"}).Draw(rt, "tenant")
				route := rapid.SampledFrom([]gatehouse.RouteID{"a", "b", ""}).Draw(rt, "route")
				plan := rapid.SampledFrom([]gatehouse.PlanID{"gold", ""}).Draw(rt, "plan")
				principal, status := who.Draw(rt, "principal"), rapid.IntRange(0, 700).Draw(rt, "status")
				in, out, units := small.Draw(rt, "in"), small.Draw(rt, "out"), small.Draw(rt, "units")
				d := time.Duration(small.Draw(rt, "us")) * time.Microsecond
				for _, m := range ms {
					m.Tenant(tenant).Series(plan, route, principal).Count(status, in, out, units, d)
				}
			}
		}
		usage := func(m *Meter) string {
			return clean(asJSON(t, []Usage{m.Usage("acme", noon), m.Usage("umbrella", noon)}))
		}
		for range rapid.IntRange(1, 3).Draw(rt, "processes") {
			m := b.open(b.options())
			for range rapid.IntRange(0, 3).Draw(rt, "flushes") {
				use(m, one)
				b.pass(m, time.Duration(rapid.IntRange(0, 90).Draw(rt, "seconds"))*time.Second)
			}
			use(m, one)
			if rapid.Bool().Draw(rt, "heir") { // another process counts meanwhile
				heir, err := openLater(b.options(), b.sys)
				if err != nil {
					rt.Fatal(err)
				}
				use(heir, one)
				if err := heir.Adopt(); err == nil {
					rt.Fatal("the folder of a living process was adopted")
				}
				use(m, one)
				die(m)
				b.pass(heir, time.Second)
				if err := heir.Adopt(); err != nil {
					rt.Fatal(err)
				}
				use(heir, one)
				m = heir
			}
			if got, want := usage(m), usage(one); got != want {
				rt.Fatalf("got  %s\nwant %s", got, want)
			}
			if m.Health() != nil {
				rt.Fatal(m.Health())
			}
			if rapid.Bool().Draw(rt, "killed") {
				die(m)
			} else {
				end(t, m)
			}
		}
		m := b.open(b.options())
		if got, want := usage(m), usage(one); got != want {
			rt.Fatalf("in the end\ngot  %s\nwant %s", got, want)
		}
		end(t, m)
		if left, _ := os.ReadDir(b.live); len(left) > 0 {
			rt.Fatalf("%d live files are left", len(left))
		}
		for i := range m.Recoveries() {
			if r := m.Recoveries()[i]; len(r.Damage) > 0 {
				rt.Fatal(r.Damage)
			}
		}
	})
}

// Two processes on one folder: the second is refused, and has changed nothing.
func TestSecondProcess(t *testing.T) {
	b := newBench(t)
	m := b.open(b.options())
	count(m, 3)
	if _, err := open(b.options(), b.sys); err == nil || !strings.Contains(err.Error(), "another process owns") {
		t.Errorf("got %v", err)
	}
	count(m, 2)
	b.pass(m, 2*time.Minute)
	end(t, m)
	m = b.open(b.options())
	if got := m.Usage("acme", noon).Total.Requests; got != 5 {
		t.Errorf("%d requests, want 5", got)
	}
	end(t, m)
}

// Two machines that were cloned while a process ran have epochs of their own.
func TestEpochs(t *testing.T) {
	b := newBench(t)
	seen := map[Epoch]bool{}
	for i := range uint32(4) {
		m := b.open(b.options())
		_, e := m.Epoch()
		if e.Counter != i+1 || seen[e] {
			t.Errorf("epoch %v after %v", e, seen)
		}
		seen[e] = true
		end(t, m)
	}
}

// After a power loss the live file is not believed, and the log is: what was
// counted after the last flush is lost, and nothing else.
func TestPowerLoss(t *testing.T) {
	b := newBench(t)
	m := b.open(b.options())
	count(m, 3)
	b.pass(m, time.Second)
	count(m, 4)
	die(m)
	b.sys.boot = func() string { return "another" }
	m = b.open(b.options())
	if got := m.Usage("acme", noon).Total.Requests; got != 3 {
		t.Errorf("%d requests, want 3", got)
	}
	if r := m.Recoveries(); len(r) != 1 || r[0].Live || r[0].Clean {
		t.Errorf("%+v", r)
	}
	end(t, m)
}

// Requests in flight when the process ends are listed as what they were.
func TestInterrupted(t *testing.T) {
	f := func(name string, finish func(m *Meter)) {
		t.Helper()
		b := newBench(t)
		m := b.open(b.options())
		s := m.Tenant("acme").Series("gold", "r", []byte("ann"))
		begin := func(i int) *Flight { return s.Begin(noon.Add(time.Duration(i) * time.Second)) }
		begin(1)
		begin(2).Answer(&Answer{Status: 200, BytesOut: 10})
		b.pass(m, 3*time.Minute) // a long answer
		long := begin(3)
		long.Answer(&Answer{Status: 200})
		long.Sent(700)
		begin(4).Answer(&Answer{Status: 503})
		begin(5).Answer(&Answer{Status: 403, By: Refusal})
		written := begin(6)
		written.Answer(&Answer{Status: 200})
		written.Written()
		done := begin(7)
		done.Answer(&Answer{Status: 200})
		done.End()
		finish(m)
		m = b.open(b.options())
		defer end(t, m)
		kept, err := Read(b.dir)
		if err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		for _, i := range kept.Interrupted {
			fmt.Fprintf(&got, "%d %s %t %t %t %d\n", i.Start.Sub(noon)/time.Second, i.Series.Consumer, i.Counted, i.Billable, i.Written, i.Bytes)
		}
		fmt.Fprint(&got, kept.Sum(MeterRequests), kept.Sum(MeterBillable), kept.Sum(MeterInterrupted), kept.Sum(MeterBytesOut))
		want := "1 ann false false false 0\n2 ann true true false 10\n3 ann true true false 700\n4 ann true false false 0\n" +
			"5 ann true false false 0\n6 ann true true true 0\n6 4 3 710"
		if got.String() != want {
			t.Errorf("%s:\ngot  %s\nwant %s", name, &got, want)
		}
	}
	f("killed", die)
	f("ended", func(m *Meter) { end(t, m) })
	f("killed after a flush", func(m *Meter) { m.tick(); die(m) })
}

// A kill between the count and the state of a flight is told by the record.
func TestInterruptedWhileCounting(t *testing.T) {
	b := newBench(t)
	m := b.open(b.options())
	s := m.Tenant("acme").Series("gold", "r", nil)
	for _, state := range []byte{slotOpen, slotAnswered} {
		f := s.Begin(noon)
		f.Answer(&Answer{Status: 200})
		f.b[0] = state
	}
	f := s.Begin(noon)
	f.Answer(&Answer{Status: 200})
	f.b[0] = slotOpen
	le.PutUint64(f.b[40:], le.Uint64(f.b[40:])+1) // it was not published
	die(m)
	m = b.open(b.options())
	counted := 0
	for _, i := range m.Recoveries()[0].Interrupted {
		if i.Counted {
			counted++
		}
	}
	if counted != 2 {
		t.Errorf("%d were counted, want 2", counted)
	}
	end(t, m)
}

// The clock follows the wall clock at a thousandth of its pace, and no minute
// comes twice.
func TestClockSteps(t *testing.T) {
	for _, step := range []time.Duration{time.Hour, -time.Hour, 3 * time.Second, time.Second} {
		b := newBench(t)
		m := b.open(b.options())
		var windows []uint32
		sum := 0
		for i := range 600 {
			if i == 100 {
				b.wall = b.wall.Add(step)
			}
			count(m, 1)
			sum++
			b.pass(m, time.Second)
			windows = append(windows, m.window.Load())
		}
		if !slices.IsSorted(windows) || windows[len(windows)-1] != minute(m.flush.clock.now) {
			t.Errorf("%v: windows from %d to %d", step, windows[0], windows[len(windows)-1])
		}
		// 500 s after the step at most 0.5 s of it is taken.
		off := b.wall.Sub(m.flush.clock.now)
		if want := step - max(min(step, 500*time.Millisecond), -500*time.Millisecond); off != want {
			t.Errorf("%v: the clock is %v behind, want %v", step, off, want)
		}
		told := slices.ContainsFunc(b.told, func(e Event) bool { return e.What == "the wall clock was set" && e.Detail == step.String() })
		if want := step != time.Second; told != want || len(b.told) > 1 {
			t.Errorf("%v: told %v", step, b.told)
		}
		if m.Health() != nil || m.Usage("acme", noon).Total.Requests != int64(sum) {
			t.Errorf("%v: %v, %d of %d", step, m.Health(), m.Usage("acme", noon).Total.Requests, sum)
		}
		end(t, m)
		kept, err := Read(b.dir)
		if err != nil || kept.Sum(MeterRequests) != int64(sum) {
			t.Errorf("%v: %d of %d, %v", step, kept.Sum(MeterRequests), sum, err)
		}
	}
}

// usage.json of before is adopted once, whenever that is cut short.
func TestSnapshot(t *testing.T) {
	const old = `{"version":1,"tenants":[{"id":"acme","since":"2026-03-05T11:00:07Z","series":[
		{"route":"r","principal":"ann","requests":5,"status":{"1xx":0,"2xx":3,"3xx":0,"4xx":1,"5xx":1},"denied":1,"bytes_in":10,"bytes_out":20,"compute_us":30,"units_millionths":40},
		{"route":"r","other":true,"requests":7,"status":{"1xx":1,"2xx":2,"3xx":0,"4xx":4,"5xx":0},"denied":0,"bytes_in":1,"bytes_out":2,"compute_us":3,"units_millionths":4}]}]}`
	b := newBench(t)
	path := filepath.Join(b.dir, "usage.json")
	want := ""
	for i := range 4 {
		if i < 2 { // the first time, and after a crash before the rename
			if err := os.WriteFile(path, []byte(old), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		m := b.open(b.options())
		count(m, 1)
		u := m.Usage("acme", noon)
		got := fmt.Sprintln(u.Since.Format(time.RFC3339), u.Total.Requests-int64(i)-1, u.Total.Denied, u.Total.Status.ServerError, u.OtherPrincipals.Requests)
		if want = "2026-03-05T11:00:00Z 12 1 1 7\n"; got != want {
			t.Errorf("start %d: got %s, want %s", i, got, want)
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("start %d: the file is still there", i)
		}
		end(t, m)
		if i == 2 { // all of it goes into the totals, and the file comes from a backup
			o := b.options()
			o.Retain = time.Nanosecond
			m := b.open(o)
			b.pass(m, time.Minute)
			b.pass(m, 3*time.Second)
			if list, _ := m.flush.folder.list(); len(list) != 1 || m.Health() != nil {
				t.Errorf("epochs are left: %v, %v", list, m.Health())
			}
			end(t, m)
			if err := os.WriteFile(path, []byte(old), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	f := func(content, want string) {
		t.Helper()
		b := newBench(t)
		path := filepath.Join(b.dir, "usage.json")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := open(b.options(), b.sys)
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: got %v, want %s", content, err, want)
		}
		if b, _ := os.ReadFile(path); string(b) != content {
			t.Errorf("%.40q: the file was changed", content)
		}
		if left, _ := os.ReadDir(b.live); len(left) > 0 {
			t.Errorf("%.40q: a live file is left", content)
		}
	}
	f("", "EOF")
	f(old[:len(old)-1], "unexpected EOF")
	f(old+"x", "text after the end")
	f(strings.Replace(old, "1", "2", 1), "version 2")
	f(strings.Replace(old, `"requests":5`, `"requests":-1`, 1), "negative")
	f(strings.Replace(old, `"requests":5`, `"requests":1.5`, 1), "1.5")
	f(strings.Replace(old, "denied", "denyed", 1), "denyed")
	f(strings.Replace(old, "acme", "", 1), "unnamed")
	f(`{"version":1,"tenants":[{"id":"a"},{"id":"a"}]}`, "twice")
}

// What is counted, flushed and shown while Adopt adds is neither lost nor
// doubled, also in a tenant whose series do not all fit.
func TestAdoptWhileCounting(t *testing.T) {
	const clients, each, kept, bound = 4, 3000, 2000, 1500
	b := newBench(t)
	o := b.options()
	o.Series = bound
	old := b.open(o)
	for i := range kept { // some of them are counted again below
		old.Tenant("acme").Series("", "r", fmt.Append(nil, i%7, "-", i/7)).Count(200, 1, 2, 3, 0)
	}
	end(t, old)
	m, err := openLater(o, b.sys)
	if err != nil {
		t.Fatal(err)
	}
	var counting sync.WaitGroup
	begun := make(chan struct{}, clients)
	for c := range clients {
		counting.Go(func() {
			acme := m.Tenant("acme")
			for i := range each {
				if i == each/10 {
					begun <- struct{}{}
				}
				f := acme.Series("", "r", fmt.Append(nil, c, "-", i%1000)).Begin(noon)
				f.Answer(&Answer{Status: 200, BytesIn: 1, BytesOut: 2, Units: 3})
				f.End()
			}
		})
	}
	for range clients {
		<-begun
	}
	if err := m.Adopt(); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		b.pass(m, 40*time.Second) // seals and gives records back
		m.Usage("acme", noon)
	}
	counting.Wait()
	const n = clients*each + kept
	want := fmt.Sprint(n, n, 2*n, 3*n, n)
	check := func(name string, m *Meter) {
		t.Helper()
		c := m.Usage("acme", noon).Total
		if got := fmt.Sprint(c.Requests, c.BytesIn, c.BytesOut, c.Units, c.Status.Success); got != want {
			t.Errorf("%s: got  %s, want %s", name, got, want)
		}
	}
	check("at once", m)
	die(m)
	m = b.open(o)
	check("after a kill", m)
	end(t, m)
}
