package proxy_test

import (
	"bufio"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse/proxy"
)

// Who has the last byte of an answer may ask again: the place is free by then,
// of a whole answer and of a stream, and over both versions of HTTP.
func TestPlaceIsFreeWithTheLastByte(t *testing.T) {
	long := strings.Repeat("x", 2<<20)
	answers := map[string]string{
		"/whole":  "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"/empty":  "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
		"/length": "HTTP/1.1 200 OK\r\nContent-Length: " + strconv.Itoa(len(long)) + "\r\n\r\n" + long,
		"/chunks": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
	}
	_, addr := serveTCP(t, func(c net.Conn) {
		defer c.Close()
		for r := bufio.NewReader(c); ; {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if _, err := io.WriteString(c, answers[req.URL.Path]); err != nil {
				return
			}
		}
	}, func(c *proxy.Config) { c.Limits.PerTenant.Requests, c.Limits.PerTenant.Queue = 1, 0 })
	two := http2Client(t, addr, nil)
	one := &http.Client{Transport: &http.Transport{}}
	defer one.CloseIdleConnections()
	for _, path := range slices.Sorted(maps.Keys(answers)) {
		for range 20 {
			for _, client := range []*http.Client{one, two} {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+path, http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				req.Host = "a.test"
				answer, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				_, err = io.Copy(io.Discard, answer.Body)
				if err = errors.Join(err, answer.Body.Close()); err != nil || answer.StatusCode != 200 {
					t.Fatalf("%s over %s: %s, %v", path, answer.Proto, answer.Status, err)
				}
			}
		}
	}
}
