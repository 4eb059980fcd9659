package main

import (
	"bufio"
	"os"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

func TestHeapMapping(t *testing.T) {
	const on = 0x32cb83900000
	for line, want := range map[string]bool{
		"32cb83800000-32cb84000000 rw-p 00000000 00:00 0 ":                                          true,
		"32cb83800000-32cb84000000 rw-p 00000000 00:00 0                          [anon: Go: heap]": true,
		"32cb80000000-32cb83800000 ---p 00000000 00:00 0 ":                                          false,
		"32cb83800000-32cb83900000 rw-p 00000000 00:00 0 ":                                          false,
		"3b17e000-3bf9f000 rw-p 00000000 00:00 0                                  [heap]":           false,
		"7f2e58bbd000-7f2e58fbd000 rw-s 00000000 00:1b 8305                       /dev/shm/live":    false,
		"7f2e58bbd000-7f2e58fbd000 rw-p 00000000 08:01 8305                       /bin/x":           false,
		"": false,
	} {
		if _, _, got := heapMapping(line, on); got != want {
			t.Errorf("%q: %v", line, got)
		}
	}
}

// The kernel notes what was asked for in the flags of the heap's mapping.
func TestAdviseHeap(t *testing.T) {
	mode, err := os.ReadFile(thpMode)
	if err != nil || strings.Contains(string(mode), "[never]") {
		return // there are no huge pages on this system
	}
	big := make([]byte, 8<<20)
	if err := adviseHeap(); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	heap, advised := false, 0
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok {
			if heap && strings.Contains(flags+" ", " hg ") {
				advised++
			}
		} else if strings.Contains(line, "-") && strings.Contains(line, " 00:00 0") || strings.Contains(line, " /") {
			_, _, heap = heapMapping(line, reflect.ValueOf(&big[0]).Pointer())
		}
	}
	runtime.KeepAlive(big)
	if advised == 0 {
		t.Error("no mapping of the heap is advised")
	}
}
