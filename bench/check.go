package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

func hashOf(key string) string {
	sum := sha256.Sum256([]byte(key))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// check shows that a contender does the work before it is measured.
func (b *bench) check(ctx context.Context, c *contender, ts []tenant) error {
	first := ts[0]
	good := func(*http.Request) {}
	switch c.work.auth {
	case "key":
		good = func(r *http.Request) { r.Header.Set("X-API-Key", first.Key) }
	case "jwt":
		good = func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+first.Token) }
	}
	expect := func(what, host string, status int, change func(*http.Request)) error {
		got, err := b.ask(ctx, c, host, change)
		if err == nil && got != status {
			err = fmt.Errorf("%s: status %d, expected %d", what, got, status)
		}
		return err
	}
	// A proxy may listen before it has read its routes.
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(3 * time.Minute); ; <-tick.C {
		err := expect("a good request", first.Host, 200, good)
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			return err
		}
	}
	if c.name == "relay" {
		return nil
	}
	if err := expect("an unknown host", "nobody.test", 404, good); err != nil {
		return err
	}
	switch c.work.auth {
	case "key":
		err := expect("a wrong key", first.Host, 401, func(r *http.Request) { r.Header.Set("X-API-Key", strings.Repeat("x", len(first.Key))) })
		if err != nil {
			return err
		}
	case "jwt":
		if err := expect("no token", first.Host, 401, func(*http.Request) {}); err != nil {
			return err
		}
		forged := first.Token[:len(first.Token)-8] + "AAAAAAAA"
		if err := expect("a forged token", first.Host, 401, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+forged) }); err != nil {
			return err
		}
	}
	if c.work.limits == 0 {
		return nil
	}
	low, err := b.low()
	if err != nil {
		return err
	}
	for range 10 * lowRate { // more than passes in the second that this takes, or two
		status, err := b.ask(ctx, c, low.Host, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+low.Token) })
		switch {
		case err != nil:
			return err
		case status == 429:
			return nil
		case status != 200:
			return fmt.Errorf("a low limit: status %d", status)
		}
	}
	return fmt.Errorf("a limit of %d a second lets %d requests pass", lowRate, 10*lowRate)
}

// ask sends one request on a connection of its own.
func (b *bench) ask(ctx context.Context, c *contender, host string, change func(*http.Request)) (int, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+"/", nil)
	if err != nil {
		return 0, err
	}
	change(r)
	conn, err := net.DialTimeout("tcp", c.addr, 5*time.Second)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if c.work.tls {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"}) //nolint:gosec // the certificate is the bench's own
	}
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if err := r.Write(conn); err != nil {
		return 0, err
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), r)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	return answer.StatusCode, nil
}
