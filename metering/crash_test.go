package metering

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

var kills = flag.Int("kills", 5, "how many processes TestKill kills with each clock")

// account is what a crash loop comes to.
type account struct {
	acked, counted, billable, interrupted, lost, double, torn int64
}

func (a account) String() string {
	return fmt.Sprintf("acked %d, counted %d, billed %d, interrupted %d, lost %d, double %d, torn %d",
		a.acked, a.counted, a.billable-a.interrupted, a.interrupted, a.lost, a.double, a.torn)
}

// balance compares acknowledgements by epoch with what a folder holds. Each
// epoch stands for itself, so that one's loss does not hide another's double.
func balance(t *testing.T, dir string, acked map[Epoch]int64, workers int64) account {
	t.Helper()
	kept, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(kept.Dropped) > 0 {
		t.Fatal("there are cells that cannot be told by epoch")
	}
	sums := map[Epoch]map[string]int64{}
	seen := map[string]bool{}
	for _, c := range kept.Cells {
		if sums[c.Epoch] == nil {
			sums[c.Epoch] = map[string]int64{}
		}
		sums[c.Epoch][c.Meter] += c.Value
		id := fmt.Sprint(c.Epoch, c.Window, c.Series, c.Meter)
		if seen[id] {
			t.Errorf("two cells are %s", id)
		}
		seen[id] = true
		if c.Series.Tenant == "" {
			t.Errorf("a cell without a series: %+v", c)
		}
	}
	var a account
	for e, n := range acked {
		s := sums[e]
		got, cut := s[MeterRequests], s[MeterInterrupted]
		a.acked += n
		a.counted += got
		a.billable += s[MeterBillable]
		a.interrupted += cut
		a.lost += max(n-got, 0)
		a.double += max(got-cut-n, 0) // whoever was not cut has been acknowledged
		if s[MeterBillable] != got || s[MeterBytesIn] != got*bodyIn || s[MeterBytesOut] != got*bodyOut ||
			s[MeterUnits] != got*unitsEach || s[MeterCompute] != got*7 {
			a.torn++
		}
		if cut > workers {
			t.Errorf("epoch %v: %d were interrupted, and only %d in flight", e, cut, workers)
		}
	}
	for _, d := range kept.Damage {
		if !d.Tail {
			t.Error(d)
		}
	}
	return a
}

// A kill loses no acknowledged request, counts none twice, tears none apart,
// and lists those that it interrupted.
func TestKill(t *testing.T) {
	f := func(live string, speed int) {
		t.Helper()
		dir := t.TempDir()
		if live == "" {
			live = t.TempDir()
		}
		const workers = 8
		acked := map[Epoch]int64{}
		for range *kills {
			e, n := kill(t, dir, live, workers, speed, time.Duration(20+rand.IntN(180))*time.Millisecond)
			acked[e] += n
		}
		m, err := Open(Options{Dir: dir, Live: t.TempDir()}) // the last adopts
		if err != nil {
			t.Fatal(err)
		}
		end(t, m)
		a := balance(t, dir, acked, workers)
		t.Logf("%d kills: %v", *kills, a)
		if a.acked == 0 || a.lost != 0 || a.double != 0 || a.torn != 0 {
			t.Errorf("%d kills: %v", *kills, a)
		}
		if left, _ := os.ReadDir(live); len(left) > 0 {
			t.Errorf("%d live files are left", len(left))
		}
	}
	f("", 1)
	f("", 1200) // a minute takes 50 ms: many are sealed
}

// kill starts a victim, kills it after a while, and returns its epoch and
// what it had acknowledged.
func kill(t *testing.T, dir, live string, workers, speed int, after time.Duration) (Epoch, int64) {
	t.Helper()
	cmd := exec.Command(os.Args[0], victimName, dir, live, fmt.Sprint(workers), fmt.Sprint(speed))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(out)
	line, err := r.ReadString('\n')
	e, ok := parseEpoch(strings.TrimSpace(line))
	if !ok {
		t.Fatalf("the process says %q, %v", line, err)
	}
	timer := time.AfterFunc(after, func() { _ = cmd.Process.Kill() }) // it is there until Wait
	defer timer.Stop()
	n, err := io.Copy(io.Discard, r)
	if err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	return e, n
}
