package http1

import (
	"io"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse/proxy/ingress"
)

// A connection whose body was interrupted takes no other request, however much
// of one is there; one whose body had been read to its end goes on.
func TestInterruptedForGood(t *testing.T) {
	const first, next = "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc", "GET /b HTTP/1.1\r\nHost: h\r\n\r\n"
	f := func(name, sent string, keeps bool, serve func(*Conn)) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			from := &feed{left: []byte(sent), step: 1 << 16}
			c := NewConn(from, config())
			defer c.Close()
			if err := c.Await(); err != nil {
				t.Fatal(err)
			}
			head, err := c.Head()
			if err != nil {
				t.Fatal(err)
			}
			var r ingress.Request
			if err := r.ParseHead(head); err != nil {
				t.Fatal(err)
			}
			c.Expect(&r)
			serve(c)
			if will, whole, done := c.WillKeep(), c.Whole(), c.Done(); will != keeps || whole != keeps || done != keeps {
				t.Errorf("after it: WillKeep %v, Whole %v, Done %v", will, whole, done)
			}
		})
	}
	read := func(c *Conn) {
		if body, err := io.ReadAll(c); err != nil || string(body) != "abc" {
			t.Errorf("%q, %v", body, err)
		}
	}
	f("behind the body", first, true, func(c *Conn) { read(c); c.Interrupt() })
	f("behind the body, with another request", first+next, true, func(c *Conn) { read(c); c.Interrupt() })
	f("before the body", first+next, false, (*Conn).Interrupt)
	f("read by another goroutine", first+next, true, func(c *Conn) {
		if err := c.Share(); err != nil {
			t.Error(err)
		}
		read(c)
		c.Interrupt()
	})
	f("within the body", strings.TrimSuffix(first, "bc"), false, func(c *Conn) {
		if n, err := c.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Error(n, err)
		}
		c.Interrupt()
		if n, err := c.Read(make([]byte, 2)); n != 0 || err == nil {
			t.Errorf("then it read %d bytes", n)
		}
	})
}
