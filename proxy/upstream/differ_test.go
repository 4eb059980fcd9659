package upstream

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// spool is a connection that gives bytes in pieces, then ends.
type spool struct {
	net.Conn
	all        []byte
	at, pieces int
}

func (s *spool) Close() error                     { return nil }
func (s *spool) SetReadDeadline(time.Time) error  { return nil }
func (s *spool) SetWriteDeadline(time.Time) error { return nil }
func (s *spool) RemoteAddr() net.Addr             { return &net.IPAddr{} }
func (s *spool) Write(p []byte) (int, error)      { return len(p), nil }

func (s *spool) Read(p []byte) (int, error) {
	if s.at == len(s.all) {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), s.pieces)], s.all[s.at:])
	s.at += n
	return n, nil
}

// read is how an answer was read: what of it, and up to where.
type read struct {
	status int
	body   string
	end    int  // bytes taken
	kept   bool // the connection serves again
}

// readOurs reads answer with this client; false where it is refused.
func readOurs(t testing.TB, answer []byte, pieces int, isHead bool) (read, bool) {
	s := &spool{all: answer, pieces: pieces}
	c := New(Config{Dial: func(context.Context, string, string) (net.Conn, error) { return s, nil }})
	defer c.Close()
	b := version(t, c, nil, gatehouse.Backend{}, "http://192.0.2.1")
	req := get()
	req.IsHead = isHead
	var resp Response
	if err := b.Do(req, &resp); err != nil {
		return read{}, false
	}
	status := resp.Status
	body, err := io.ReadAll(&resp)
	resp.Release()
	if err != nil && b.Stats().Endpoints[0].Idle > 0 {
		t.Errorf("%q: kept after %v", answer, err)
	}
	return read{status, string(body), s.at, b.Stats().Endpoints[0].Idle > 0}, err == nil
}

// readTheirs reads it with net/http.
func readTheirs(answer []byte, isHead bool) (read, error) {
	req := &http.Request{Method: "GET"}
	if isHead {
		req.Method = "HEAD"
	}
	rest := bytes.NewReader(answer)
	r := bufio.NewReaderSize(rest, 64<<10)
	for {
		resp, err := http.ReadResponse(r, req)
		if err != nil {
			return read{}, err
		}
		if resp.StatusCode < 200 {
			continue
		}
		body, err := io.ReadAll(resp.Body)
		return read{resp.StatusCode, string(body), len(answer) - rest.Len() - r.Buffered(), false}, err
	}
}

// differ holds this client to two laws. What it accepts net/http accepts, with
// the same status and body, but for these: a Trailer field that names what no
// trailer may hold, for this client a field as others are; and white space
// between a chunk's size and its extensions (RFC 9112, section 7.1.1). And a
// connection is kept only where exactly the answer was taken from it.
func differ(t testing.TB, answer []byte, pieces int, isHead bool) {
	ours, ok := readOurs(t, answer, pieces, isHead)
	if !ok {
		return
	}
	theirs, err := readTheirs(answer, isHead)
	if err != nil {
		spaced := bytes.Contains(answer, []byte(" ;")) || bytes.Contains(answer, []byte("\t;"))
		if !strings.Contains(err.Error(), "bad trailer key") &&
			(!spaced || err.Error() != "invalid byte in chunk length") {
			t.Errorf("%q: net/http refuses: %v", answer, err)
		}
		return
	}
	if ours.status != theirs.status || ours.body != theirs.body {
		t.Errorf("%q: %d %q, net/http has %d %q", answer, ours.status, ours.body, theirs.status, theirs.body)
	}
	if ours.kept && ours.end != theirs.end {
		t.Errorf("%q: kept, with %d bytes of %d taken", answer, ours.end, theirs.end)
	}
}

func FuzzResponseHead(f *testing.F) {
	for _, s := range []string{
		ok, ok + ok, "HTTP/1.0 200\r\n\r\nabc", "HTTP/1.1 304 x\r\nContent-Length: 9\r\n\r\n",
		"HTTP/1.1 103 x\r\nA: b\r\n\r\n" + ok, "HTTP/1.1 204 x\r\nContent-Length: 0\r\n\r\nabc",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n1;x\r\na\r\n0\r\nA: b\r\n\r\n",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabcd",
	} {
		f.Add([]byte(s), uint8(3), false)
		f.Add([]byte(s), uint8(200), true)
	}
	f.Fuzz(func(t *testing.T, answer []byte, pieces uint8, isHead bool) {
		if len(answer) < 4<<10 {
			differ(t, answer, int(pieces)+1, isHead)
		}
	})
}

func FuzzChunks(f *testing.F) {
	for _, s := range []string{
		"0\r\n\r\n", "1\r\na\r\n0\r\n\r\n", "a;b=c\r\n0123456789\r\n000\r\nA: b\r\n\r\nrest", "2\r\nab\r\n",
		"3 ;\r\nabc\r\n0\r\n\r\n", "0\r\nA: b\r\n c\r\n\r\n", "1\na\n0\n\n", "ffffffffffffffff\r\n",
	} {
		f.Add([]byte(s), uint8(1))
		f.Add([]byte(s), uint8(99))
	}
	f.Fuzz(func(t *testing.T, body []byte, pieces uint8) {
		if len(body) < 4<<10 {
			differ(t, append([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), body...), int(pieces)+1, false)
		}
	})
}

// What could be read in two ways is answered with 502, and its connection is
// not used again.
func TestTwoReadings(t *testing.T) {
	const poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON"
	f := func(name, answer, expected string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			b := live(t, gatehouse.Backend{Timeouts: brief}, backend(t, func(n int, p *peer) {
				for p.request() != "" {
					if n == 1 {
						p.send(answer + poison)
					} else {
						p.send(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d", n))
					}
				}
			}))
			want(t, outcome(b, get()), expected)
			want(t, outcome(b, get()), `200 "2" attempts=1`)
		})
	}
	head := "HTTP/1.1 200 OK\r\n"
	const syntax, coding = "GH-FW-003 http_protocol_error attempts=1", "GH-FW-003 http_response_transfer_coding attempts=1"
	f("length and coding", head+"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", syntax)
	f("two lengths", head+"Content-Length: 3\r\nContent-Length: 5\r\n\r\nabcde", syntax)
	f("equal lengths", head+"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", syntax)
	f("list of lengths", head+"Content-Length: 3, 3\r\n\r\nabc", syntax)
	f("signed length", head+"Content-Length: +3\r\n\r\nabc", syntax)
	f("coding in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", coding)
	f("other coding", head+"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", coding)
	f("coding twice", head+"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", coding)
	f("hidden coding", head+"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", syntax)
	f("folded line", head+"Content-Length: 3\r\nA: b\r\n Content-Length: 5\r\n\r\nabcde", syntax)
	f("folded first line", head+" A: b\r\n\r\n", syntax)
	f("bare LF", head+"A: b\nContent-Length: 3\r\n\r\nabc", syntax)
	f("bare CR", head+"A: b\rContent-Length: 3\r\n\r\nabc", syntax)
	f("NUL", head+"A: b\x00\r\nContent-Length: 3\r\n\r\nabc", syntax)
	f("204 with a length", "HTTP/1.1 204 x\r\nContent-Length: 3\r\n\r\nabc", syntax)
	f("204 with chunks", "HTTP/1.1 204 x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", syntax)
	f("103 with a length", "HTTP/1.1 103 x\r\nContent-Length: 3\r\n\r\nabc", syntax)
	f("header too large", sized(maxHead+1), "GH-FW-003 http_response_header_section_size attempts=1")
	chunked := head + "Transfer-Encoding: chunked\r\n\r\n"
	f("chunk size in another base", chunked+"0x3\r\nabc\r\n0\r\n\r\n", `200 "" GH-FW-003 http_response_transfer_coding attempts=1`)
	f("chunk size too large", chunked+"10000000000000003\r\nabc\r\n0\r\n\r\n", `200 "" GH-FW-003 http_response_transfer_coding attempts=1`)
	f("chunk without its CRLF", chunked+"3\r\nabc0\r\n\r\n", `200 "abc" GH-FW-003 http_response_transfer_coding attempts=1`)
	f("LF behind the last chunk", chunked+"0\r\n\n", `200 "" GH-FW-003 http_protocol_error attempts=1`)

	// These are whole answers. What comes behind them is no part of them,
	// whenever it comes, so that the connection alone suffers for it.
	f("bytes behind", head+"Content-Length: 0\r\n\r\n", `200 "" attempts=1`)
	f("bytes behind 204", "HTTP/1.1 204 x\r\nContent-Length: 0\r\n\r\n", `204 "" attempts=1`)
	f("bytes behind 304", "HTTP/1.1 304 x\r\nContent-Length: 3\r\n\r\n", `304 "" attempts=1`)
}
