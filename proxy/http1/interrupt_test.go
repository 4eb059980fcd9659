package http1

import (
	"io"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse/proxy/ingress"
)

// A connection that was interrupted takes no other request, whenever that was
// and however much of one is there.
func TestInterruptedForGood(t *testing.T) {
	const first, next = "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc", "GET /b HTTP/1.1\r\nHost: h\r\n\r\n"
	f := func(name, sent string, serve func(*Conn)) {
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
			if c.WillKeep() || c.Whole() || c.Done() {
				t.Errorf("after it: WillKeep %v, Whole %v, Done %v", c.WillKeep(), c.Whole(), c.Done())
			}
		})
	}
	read := func(c *Conn) {
		if body, err := io.ReadAll(c); err != nil || string(body) != "abc" {
			t.Errorf("%q, %v", body, err)
		}
	}
	f("behind the body", first, func(c *Conn) { read(c); c.Interrupt() })
	f("behind the body, with another request", first+next, func(c *Conn) { read(c); c.Interrupt() })
	f("before the body", first+next, (*Conn).Interrupt)
	f("read by another goroutine", first+next, func(c *Conn) {
		if err := c.Share(); err != nil {
			t.Error(err)
		}
		read(c)
		c.Interrupt()
	})
	f("within the body", strings.TrimSuffix(first, "bc"), func(c *Conn) {
		if n, err := c.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Error(n, err)
		}
		c.Interrupt()
		if n, err := c.Read(make([]byte, 2)); n != 0 || err == nil {
			t.Errorf("then it read %d bytes", n)
		}
	})
	f("in the request before", first+next, func(c *Conn) {
		read(c)
		c.Interrupt()
		c.Done()
		if _, err := c.Head(); err != nil { // as one would who did not mind
			t.Error(err)
		}
		c.Expect(&ingress.Request{Minor: 1})
	})
}
