package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// figures are of one round.
type figures struct {
	requests int64
	rps      float64
	cpu      float64 // µs a request
	user     float64 // of it in user space
	p50, p99 time.Duration
	rss      int64
}

// script writes what wrk sends: requests to the active tenants by turns, each
// made once.
func script(file string, s scenario, ts []tenant) error {
	var b bytes.Buffer
	b.WriteString("local all = {}\nlocal n = 0\nfunction init(args)\n")
	if s.upload > 0 {
		fmt.Fprintf(&b, "  local body = string.rep('x', %d)\n", s.upload)
	} else {
		b.WriteString("  local body = nil\n")
	}
	for _, t := range ts[:min(len(ts), active)] {
		method := "GET"
		if s.upload > 0 {
			method = "POST"
		}
		fmt.Fprintf(&b, "  all[#all+1] = wrk.format(%q, %q, {", method, s.target())
		fmt.Fprintf(&b, "[\"Host\"]=%q", t.Host)
		switch s.auth {
		case "key":
			fmt.Fprintf(&b, ",[\"X-API-Key\"]=%q", t.Key)
		case "jwt":
			fmt.Fprintf(&b, ",[\"Authorization\"]=%q", "Bearer "+t.Token)
		}
		if s.handshakes {
			b.WriteString(",[\"Connection\"]=\"close\"")
		}
		b.WriteString("}, body)\n")
	}
	b.WriteString("end\nfunction request()\n  n = n + 1\n  return all[n % #all + 1]\nend\n")
	return os.WriteFile(file, b.Bytes(), 0o600)
}

func (s *scenario) target() string {
	if s.path == "" {
		return "/"
	}
	return s.path
}

var wrkLine = map[string]*regexp.Regexp{
	"requests": regexp.MustCompile(`(\d+) requests in`),
	"rps":      regexp.MustCompile(`Requests/sec:\s+([\d.]+)`),
	"p50":      regexp.MustCompile(`(?m)^\s+50%\s+(\S+)`),
	"p99":      regexp.MustCompile(`(?m)^\s+99%\s+(\S+)`),
}

// closed loads a proxy by a closed loop for length.
func (b *bench) closed(ctx context.Context, c *contender, length time.Duration) (figures, error) {
	s := c.work
	scheme := "http"
	if s.tls {
		scheme = "https"
	}
	before, err := c.spent()
	if err != nil {
		return figures{}, err
	}
	cmd := exec.CommandContext(ctx, "taskset", "-c", "1", "wrk", "-t1", "-c"+strconv.Itoa(s.clients()), fmt.Sprintf("-d%ds", int(length.Seconds())),
		"--latency", "-s", filepath.Join(b.dir, s.name+".lua"), scheme+"://"+strings.Replace(c.addr, "127.0.0.1", "localhost", 1)+"/")
	text, err := cmd.CombinedOutput()
	if err != nil {
		return figures{}, fmt.Errorf("wrk: %w: %s", err, text)
	}
	after, err := c.spent()
	if err != nil {
		return figures{}, err
	}
	if bytes.Contains(text, []byte("Non-2xx")) || bytes.Contains(text, []byte("Socket errors")) && !s.handshakes {
		return figures{}, fmt.Errorf("errors under load: %s", text)
	}
	f, err := readWrk(text)
	if err != nil {
		return figures{}, fmt.Errorf("%w: %s", err, text)
	}
	if f.requests == 0 {
		return figures{}, fmt.Errorf("wrk answered nothing: %s", text)
	}
	f.took(before, after)
	return f, nil
}

// readWrk reads what wrk prints.
func readWrk(text []byte) (f figures, err error) {
	value := func(name string) string {
		if m := wrkLine[name].FindSubmatch(text); m != nil {
			return string(m[1])
		}
		return ""
	}
	var failed [4]error
	f.requests, failed[0] = strconv.ParseInt(value("requests"), 10, 64)
	f.rps, failed[1] = strconv.ParseFloat(value("rps"), 64)
	f.p50, failed[2] = time.ParseDuration(value("p50"))
	f.p99, failed[3] = time.ParseDuration(value("p99"))
	return f, errors.Join(failed[:]...)
}

// took notes what the requests cost.
func (f *figures) took(before, after usage) {
	user := float64((after.user - before.user).Microseconds())
	f.user = user / float64(f.requests)
	f.cpu = (user + float64((after.system - before.system).Microseconds())) / float64(f.requests)
	f.rss = after.rss
}

func (s *scenario) clients() int {
	if s.connections == 0 {
		return 64
	}
	return s.connections
}
