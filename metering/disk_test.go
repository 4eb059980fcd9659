package metering

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// failing is a disk of which some operations fail, counted from 1. The first
// of them writes half of what it should.
type failing struct {
	quick
	now, from, to int
}

var errDisk = errors.New("the disk is at fault")

func (d *failing) bad() bool {
	d.now++
	return d.now >= d.from && d.now < d.to
}

func (d *failing) Create(path string) (file, error) {
	if d.bad() {
		return nil, errDisk
	}
	f, err := d.quick.Create(path)
	return failingFile{f, d}, err
}

func (d *failing) Open(path string) (file, error) {
	if d.bad() {
		return nil, errDisk
	}
	f, err := d.quick.Open(path)
	return failingFile{f, d}, err
}

func (d *failing) Rename(from, to string) error {
	if d.bad() {
		return errDisk
	}
	return d.quick.Rename(from, to)
}

func (d *failing) Remove(path string) error {
	if d.bad() {
		return errDisk
	}
	return d.quick.Remove(path)
}

func (d *failing) SyncDir(string) error {
	if d.bad() {
		return errDisk
	}
	return nil
}

type failingFile struct {
	file
	d *failing
}

func (f failingFile) WriteAt(b []byte, at int64) (int, error) {
	if !f.d.bad() {
		return f.file.WriteAt(b, at)
	}
	if f.d.now == f.d.from {
		n, _ := f.file.WriteAt(b[:len(b)/2], at) // half of it is there
		return n, errDisk
	}
	return 0, errDisk
}

func (f failingFile) Sync() error {
	if f.d.bad() {
		return errDisk
	}
	return nil
}

// A process that stops at any operation of the disk, or whose disk fails for
// a while from there on, has lost nothing that it may not lose.
func TestDiskFaults(t *testing.T) {
	const never = 1 << 30
	run := func(from, to int, reboot bool) (ops int, told bool) {
		t.Helper()
		b := newBench(t)
		name := fmt.Sprintf("operations %d to %d, reboot %t", from, to, reboot)
		o := b.options()
		o.Retain = 100 * time.Second // some segments are dropped
		m := b.open(o)
		m.flush.wal.small, m.flush.wal.large = 40<<10, 40<<10
		d := &failing{from: from, to: to}
		bad := *b.sys // but for the live file, which is in memory
		bad.disk = d
		m.system, m.flush.folder.system, m.flush.wal.disk = &bad, &bad, d
		sum, safe := int64(0), int64(0)
		for i := range 40 {
			for j := range 30 {
				m.Tenant("acme").Series("", "r", fmt.Append(nil, strings.Repeat("x", 60), j)).Count(200, 1, 2, 3, 0)
			}
			sum += 30
			before := sum
			b.pass(m, 11*time.Second)
			if m.Health() == nil {
				safe = before
			} else {
				told = true
			}
			if i == 25 && from < never && to == never {
				break // the process is stuck and killed
			}
		}
		for range 20 {
			if to < never && m.Health() != nil {
				b.pass(m, time.Second)
			}
		}
		if to < never && m.Health() != nil {
			t.Errorf("%s: still %v", name, m.Health())
		}
		die(m)
		if reboot {
			b.sys.boot = func() string { return "another" }
		}
		m = b.open(o)
		got := m.Usage("acme", noon).Total
		if reboot && (got.Requests < safe || got.Requests > sum) || !reboot && got.Requests != sum {
			t.Errorf("%s: %d requests of %d, %d safe", name, got.Requests, sum, safe)
		}
		if got.BytesIn != got.Requests || got.BytesOut != 2*got.Requests {
			t.Errorf("%s: torn: %+v", name, got)
		}
		for _, r := range m.Recoveries() {
			for _, damage := range r.Damage {
				// A write that failed was made up for by another.
				if damage.Missing > 0 && (to < never || !told) {
					t.Errorf("%s: %v", name, damage)
				}
			}
		}
		end(t, m)
		return d.now, told
	}
	all, told := run(never, never, true)
	if told {
		t.Error("a good disk has faults")
	}
	for from := 1; from <= all; from += pick(1, 11) {
		run(from, never, false)
		run(from, never, true)
		if _, told := run(from, from+20, from%2 == 0); !told {
			t.Errorf("a fault at %d is not told", from)
		}
	}
	t.Logf("%d operations", all)
}

// A disk that is full takes no usage away: segments have their room already,
// then the window is held, and what waits is written when there is room.
func TestDiskFull(t *testing.T) {
	b := newBench(t)
	fill := b.smallDisk()
	o := b.options()
	o.Refuse = true
	m := b.open(o)
	sum := int64(0)
	use := func(n int) {
		for range n {
			for j := range 50 {
				m.Tenant("acme").Series("", "r", fmt.Append(nil, strings.Repeat("x", 60), j)).Count(200, 1, 2, 3, 0)
				sum++
			}
			b.pass(m, 10*time.Second)
		}
	}
	use(20)
	fill(true)
	use(600)
	if err := m.Health(); err == nil || !strings.Contains(err.Error(), "no space") || m.Full() == nil {
		t.Errorf("Health tells %v, Full %v", err, m.Full())
	}
	taken := len(m.live.taken)
	if taken > 50*(holdAfter+3) {
		t.Errorf("%d records are taken: the window is not held", taken)
	}
	fill(false)
	use(20)
	if m.Health() != nil || m.Full() != nil {
		t.Error(m.Health())
	}
	die(m)
	kept, err := Read(b.dir)
	if err != nil || kept.Sum(MeterRequests) != sum {
		t.Errorf("%d of %d requests are kept, %v", kept.Sum(MeterRequests), sum, err)
	}
	m = b.open(b.options())
	if got := m.Usage("acme", noon).Total.Requests; got != sum {
		t.Errorf("%d of %d requests", got, sum)
	}
	end(t, m)
}

// smallDisk puts the folder on a small file system, or on a disk that says it
// is one where mounting is not allowed, and returns what fills it and frees it.
func (b *bench) smallDisk() (fill func(bool)) {
	dir := b.t.TempDir()
	if _, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", dir).CombinedOutput(); err != nil {
		full := &fullDisk{}
		b.sys.disk = full
		return full.is.Store
	}
	b.t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			b.t.Errorf("%v\n%s", err, out)
		}
	})
	b.sys.disk = osDisk{}
	b.dir = filepath.Join(dir, "data")
	ballast := filepath.Join(dir, "ballast")
	return func(full bool) {
		if !full {
			if err := os.Remove(ballast); err != nil {
				b.t.Fatal(err)
			}
			return
		}
		f, err := os.Create(ballast)
		if err != nil {
			b.t.Fatal(err)
		}
		for block := make([]byte, 4096); err == nil; {
			_, err = f.Write(block)
		}
		_ = f.Close() // it is full
	}
}

// fullDisk is a disk on which no file can be made while it is full.
type fullDisk struct {
	quick
	is atomic.Bool
}

func (d *fullDisk) Create(path string) (file, error) {
	if d.is.Load() && filepath.Base(filepath.Dir(path)) != "live" {
		return nil, syscall.ENOSPC
	}
	return d.quick.Create(path)
}
