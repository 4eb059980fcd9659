package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a program under the bench's hand, pinned to cores.
type process struct {
	cmd *exec.Cmd
	log bytes.Buffer
	end chan error
}

// start runs a program on cores, such as "0" or "0,1". It ends with the bench.
func start(ctx context.Context, cores string, env []string, name string, args ...string) (*process, error) {
	p := &process{cmd: exec.CommandContext(ctx, "taskset", append([]string{"-c", cores, name}, args...)...), end: make(chan error, 1)}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = 5 * time.Second
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() { p.end <- p.cmd.Wait() }()
	return p, nil
}

// stop ends the program and waits for it.
func (p *process) stop() {
	if p == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-p.end: //nolint:errcheck // it was told to end
	case <-time.After(5 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.end //nolint:errcheck // it was killed
	}
}

// usage is CPU time so far and resident memory in bytes.
type usage struct {
	user, system time.Duration
	rss          int64
}

// spent returns what the program and its children have taken.
func (p *process) spent() (u usage, err error) {
	for _, pid := range family(p.cmd.Process.Pid) {
		b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
		if err != nil {
			return usage{}, fmt.Errorf("read CPU time: %w", err)
		}
		f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+2:]))
		user, _ := strconv.ParseInt(f[11], 10, 64)
		system, _ := strconv.ParseInt(f[12], 10, 64)
		pages, _ := strconv.ParseInt(f[21], 10, 64)
		u.user += time.Duration(user) * tick
		u.system += time.Duration(system) * tick
		u.rss += pages * int64(os.Getpagesize())
	}
	return u, nil
}

const tick = time.Second / 100 // USER_HZ is 100 on Linux

// family is a process with its descendants.
func family(pid int) []int {
	all := []int{pid}
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, t := range tasks {
		b, err := os.ReadFile(t)
		if err != nil {
			continue // it ended meanwhile
		}
		for _, child := range strings.Fields(string(b)) {
			if n, err := strconv.Atoi(child); err == nil {
				all = append(all, family(n)...)
			}
		}
	}
	return all
}
