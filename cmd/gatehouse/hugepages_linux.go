package main

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	hugePage = 2 << 20
	// The heap grows by whole regions, seldom after the start.
	adviseEvery = 10 * time.Second
	thpMode     = "/sys/kernel/mm/transparent_hugepage/enabled"
)

// adviseHugePages asks the kernel, until ctx ends, to hold the heap in pages
// of 2 MiB. Each request touches memory of a tenant that was not used for a
// while, and finding a page of 4 KiB then takes as long as what is done with
// it: a twentieth of a request's processor time among a thousand tenants.
//
// The Go runtime leaves it to the system's mode. It is asked for here where
// that mode is madvise, Debian's default; with always it is so anyway, and
// with never it cannot be had.
func adviseHugePages(ctx context.Context, log *slog.Logger) {
	mode, err := os.ReadFile(thpMode)
	if err != nil || !strings.Contains(string(mode), "[madvise]") {
		return
	}
	tick := time.NewTicker(adviseEvery)
	defer tick.Stop()
	for {
		if err := adviseHeap(); err != nil {
			log.Warn("huge pages are not asked for", "error", err)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// adviseHeap asks for huge pages in every mapping of the heap.
func adviseHeap() error {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return err
	}
	defer f.Close()
	on := new([1 << 16]byte)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		from, to, ok := heapMapping(lines.Text(), reflect.ValueOf(on).Pointer())
		if !ok {
			continue
		}
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_HUGEPAGE); errno != 0 {
			return fmt.Errorf("madvise: %w", errno)
		}
		// At once, for the kernel's own sweep takes minutes. It may be out of
		// such pages, or older than 6.1: then it is the sweep's.
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_COLLAPSE)
	}
	return lines.Err()
}

// heapMapping parses a line of /proc/self/maps, and reports whether it is of
// the heap: anonymous memory that can be written, in the terabyte of the heap's
// own that on is in.
func heapMapping(line string, on uintptr) (from, to uintptr, ok bool) {
	const terabyte = 40
	var mode string
	var rest, inode uint64
	var device, name string
	n, _ := fmt.Sscanf(line, "%x-%x %s %x %s %d %s", &from, &to, &mode, &rest, &device, &inode, &name)
	if n < 6 || mode != "rw-p" || inode != 0 || n == 7 && !strings.HasPrefix(name, "[anon:") {
		return 0, 0, false
	}
	return from, to, from>>terabyte == on>>terabyte && to-from >= hugePage
}
