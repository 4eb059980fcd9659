package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// open loads the proxy at a constant rate, whatever it does: each request has
// its time, and its latency counts from then, so that a stall is seen by all
// requests that it delays.
func (b *bench) open(ctx context.Context, c *contender, ts []tenant, length time.Duration) (figures, error) {
	before, err := c.spent()
	if err != nil {
		return figures{}, err
	}
	beside, stop := context.WithCancel(ctx)
	var others sync.WaitGroup
	if c.work.churn > 0 && c.build != "" {
		others.Go(func() { err = errors.Join(err, b.churn(beside, c, ts)) })
	}
	if c.work.noisy {
		others.Go(func() { b.noise(beside, c, ts[0]) })
	}
	n := int(float64(c.work.rate) * length.Seconds())
	took, failure := constant(ctx, c, ts[1:min(len(ts), active)], n)
	stop()
	others.Wait()
	if err := errors.Join(err, failure); err != nil {
		return figures{}, err
	}
	after, err := c.spent()
	if err != nil {
		return figures{}, err
	}
	slices.Sort(took)
	f := figures{requests: int64(n), rps: float64(c.work.rate), p50: took[n/2], p99: took[n*99/100]}
	f.took(before, after)
	return f, nil
}

// constant sends n requests at their times over 64 connections.
func constant(ctx context.Context, c *contender, ts []tenant, n int) ([]time.Duration, error) {
	took := make([]time.Duration, n)
	var next atomic.Int64
	begin := time.Now()
	var failed error
	var once sync.Once
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			conn, err := net.Dial("tcp", c.addr)
			if err != nil {
				once.Do(func() { failed = err })
				return
			}
			defer conn.Close()
			r := bufio.NewReaderSize(conn, 8<<10)
			timer := time.NewTimer(0)
			defer timer.Stop()
			for {
				i := int(next.Add(1) - 1)
				if i >= n || ctx.Err() != nil {
					return
				}
				due := begin.Add(time.Duration(i) * time.Second / time.Duration(c.work.rate))
				if wait := time.Until(due); wait > 0 {
					timer.Reset(wait)
					<-timer.C
				}
				if status, err := exchange(conn, r, &c.work, &ts[i%len(ts)]); err != nil || status != 200 {
					once.Do(func() { failed = fmt.Errorf("under load: status %d, %w", status, err) })
					return
				}
				took[i] = time.Since(due)
			}
		})
	}
	wg.Wait()
	return took, failed
}

// exchange sends one request and reads its answer.
func exchange(conn net.Conn, r *bufio.Reader, s *scenario, t *tenant) (int, error) {
	head := "GET / HTTP/1.1\r\nHost: " + t.Host + "\r\n"
	switch s.auth {
	case "jwt":
		head += "Authorization: Bearer " + t.Token + "\r\n"
	case "key":
		head += "X-API-Key: " + t.Key + "\r\n"
	}
	if _, err := io.WriteString(conn, head+"\r\n"); err != nil {
		return 0, err
	}
	answer, err := http.ReadResponse(r, nil)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode, errors.Join(err, answer.Body.Close())
}

// noise asks as the first tenant as fast as eight connections can.
func (b *bench) noise(ctx context.Context, c *contender, t tenant) {
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			conn, err := net.Dial("tcp", c.addr)
			if err != nil {
				return
			}
			defer conn.Close()
			for r := bufio.NewReader(conn); ctx.Err() == nil; {
				if _, err := exchange(conn, r, &c.work, &t); err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
}

// churn saves another tenant's document, with another limit each time, so many
// times a second.
func (b *bench) churn(ctx context.Context, c *contender, ts []tenant) error {
	file := filepath.Join(b.dir, c.name+"-"+c.work.name, "tenants", "churn.yaml")
	tick := time.NewTicker(time.Second / time.Duration(c.work.churn))
	defer tick.Stop()
	for i := 1; ; i++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		text := strings.NewReplacer("RATE", strconv.Itoa(1000+i%1000), "BACKEND", ts[0].Backend).Replace(
			`tenants: [{id: churn, domain: churn.test, limits: {rules: [{name: r, rate: RATE/s}]}, backends: [{id: app, endpoints: [{url: "http://BACKEND"}]}], routes: [{id: all, match: {path: /}, auth: none, backend: app}]}]` + "\n")
		if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
			return err
		}
		if err := os.Rename(file+".new", file); err != nil {
			return err
		}
	}
}
