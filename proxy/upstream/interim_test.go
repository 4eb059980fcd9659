package upstream

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// fieldText tells fields in their order.
func fieldText(fields []Field) string {
	var s strings.Builder
	for _, f := range fields {
		fmt.Fprintf(&s, " %s=%q", f.Name, f.Value)
	}
	return s.String()
}

// withInterims is outcome, with the interim answers before it.
func withInterims(b *Backend, req *Request) string {
	var s strings.Builder
	req.Interim = func(status int, fields []Field) { fmt.Fprintf(&s, "%d%s, ", status, fieldText(fields)) }
	end := outcome(b, req)
	return s.String() + end
}

// Interim answers come in their order, but for 100 and 101, and do not change
// what follows them.
func TestInterim(t *testing.T) {
	f := func(answer, expected string) {
		t.Helper()
		for name, req := range map[string]*Request{
			"no body": get(), "small body": post("x"),
			"large body": post(strings.Repeat("x", 100_000)),
		} {
			b := live(t, gatehouse.Backend{Timeouts: brief}, backend(t, func(_ int, p *peer) {
				for head := p.request(); head != ""; head = p.request() {
					if strings.HasPrefix(head, "POST") {
						if _, err := p.readBody(head); err != nil {
							return
						}
					}
					p.send(answer)
				}
			}))
			t.Run(name, func(t *testing.T) { want(t, withInterims(b, req), expected+" attempts=1") })
		}
	}
	hints := "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nLink: </b>\r\n\r\n"
	f(hints+ok, `103 Link="</a>" Link="</b>", 200 "ok"`)
	f("HTTP/1.1 100 Continue\r\nA: b\r\n\r\n"+hints+"HTTP/1.1 199 x\r\n\r\n"+ok, `103 Link="</a>" Link="</b>", 199, 200 "ok"`)
	f(hints+"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", `103 Link="</a>" Link="</b>", GH-FW-003 http_upgrade_failed`)
	f(strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", maxInterim+1)+ok,
		strings.Repeat("102, ", maxInterim)+"GH-FW-003 http_protocol_error")
	f("HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n"+ok, "GH-FW-003 http_protocol_error")
	f("HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\n"+ok, "GH-FW-003 http_protocol_error")
	f("HTTP/1.1 103 Early Hints\r\nContent-Length: 0\r\n\r\n"+ok, `103 Content-Length="0", 200 "ok"`)
}

// The trailer of a chunked request follows its last chunk.
func TestRequestTrailer(t *testing.T) {
	got := make(chan string, 1)
	b := live(t, gatehouse.Backend{Timeouts: brief}, backend(t, func(_ int, p *peer) {
		for p.request() != "" {
			var all strings.Builder
			for line := ""; line != "0\r\n"; {
				var err error
				if line, err = p.r.ReadString('\n'); err != nil {
					return
				}
				all.WriteString(clipLine(line))
			}
			all.WriteString(p.request())
			got <- all.String()
			p.send(ok)
		}
	}))
	f := func(body io.Reader, trailer func([]byte) []byte, expected string) {
		t.Helper()
		req := chunkedPost(body)
		req.Trailer = trailer
		want(t, outcome(b, req), `200 "ok" attempts=1`)
		want(t, <-got, expected)
	}
	sum := func(dst []byte) []byte { return append(dst, "Digest: x\r\nB: c\r\n"...) }
	f(strings.NewReader("abc"), nil, "3\r\nabc\r\n0\r\n\r\n")
	f(strings.NewReader("abc"), sum, "3\r\nabc\r\n0\r\nDigest: x\r\nB: c\r\n\r\n")
	f(strings.NewReader(""), sum, "0\r\nDigest: x\r\nB: c\r\n\r\n")
	f(iotest.DataErrReader(strings.NewReader("a")), sum, "1\r\na\r\n0\r\nDigest: x\r\nB: c\r\n\r\n")
	f(strings.NewReader(""), func(dst []byte) []byte { return dst }, "0\r\n\r\n")
	// One that is longer than the buffer it is put behind.
	long := "A: " + strings.Repeat("x", 60_000) + "\r\n"
	f(strings.NewReader("abc"), func(dst []byte) []byte { return append(dst, long...) }, "3\r\nabc\r\n0\r\n"+long+"\r\n")
	if n := b.Stats().Endpoints[0].Dials; n != 1 {
		t.Errorf("%d dials", n)
	}
}

func clipLine(s string) string { return s[:min(len(s), 100)] }

// withTrailer is outcome, with the trailer behind it.
func withTrailer(b *Backend, req *Request) string {
	var resp Response
	if err := b.Do(req, &resp); err != nil {
		return failureText(err)
	}
	defer resp.Release()
	early := fieldText(resp.Trailer())
	body, err := io.ReadAll(&resp)
	s := fmt.Sprintf("%d %q", resp.Status, clip(body))
	if err != nil {
		s += " " + failureText(err)
	}
	return s + early + fieldText(resp.Trailer())
}

func TestResponseTrailer(t *testing.T) {
	f := func(answer, expected string) {
		t.Helper()
		b := live(t, gatehouse.Backend{Timeouts: brief}, backend(t, always("HTTP/1.1 200 OK\r\n"+answer)))
		for range 2 {
			want(t, withTrailer(b, get()), expected)
		}
	}
	const chunked = "Transfer-Encoding: chunked\r\n\r\n"
	f(chunked+"2\r\nok\r\n0\r\n\r\n", `200 "ok"`)
	f(chunked+"2\r\nok\r\n0\r\nDigest: a\r\nB:\r\nDIGEST: \tc d \r\n\r\n", `200 "ok" Digest="a" B="" DIGEST="c d"`)
	f(chunked+"0\r\nA: b\r\n\r\n", `200 "" A="b"`)
	f("Content-Length: 2\r\n\r\nok", `200 "ok"`)
	f(chunked+"0\r\nA: "+strings.Repeat("x", 900)+"\r\n"+strings.Repeat("B: c\r\n", 200)+"\r\n",
		`200 "" A="`+strings.Repeat("x", 900)+`"`+strings.Repeat(` B="c"`, 200))

	const size = ` GH-FW-003 http_response_trailer_section_size`
	f(chunked+"0\r\n"+strings.Repeat("A: b\r\n", maxFields+1)+"\r\n", `200 ""`+size)
	f(chunked+"0\r\n"+strings.Repeat("A: "+strings.Repeat("x", 1000)+"\r\n", 17)+"\r\n", `200 ""`+size)
	const syntax = ` GH-FW-003 http_protocol_error`
	f(chunked+"0\r\nA: b\r\nbad\r\n\r\n", `200 ""`+syntax)
	f(chunked+"0\r\nA: b\x00\r\n\r\n", `200 ""`+syntax)
	f(chunked+"0\r\nA : b\r\n\r\n", `200 ""`+syntax)
	f(chunked+"0\r\nA: b\r\n c\r\n\r\n", `200 ""`+syntax)
	f(chunked+"0\r\nA: b\rc\r\n\r\n", `200 ""`+syntax)
}

// While a backend is silent its client is asked for, every 250 ms; when it is
// gone the wait ends, and the backend's connection.
func TestGone(t *testing.T) {
	answer := "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab"
	f := func(name string, req *Request, answer, expected string, after time.Duration) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ended := make(chan struct{})
				b, end := inMemory(t, gatehouse.Backend{}, func(p *peer) {
					defer close(ended)
					head := p.request()
					if req.BodyLength != 0 {
						_, _ = p.readBody(head)
					}
					if answer != "" {
						p.send(answer)
					}
					p.hold()
				})
				defer end()
				start, asked := time.Now(), 0
				req.Gone = func() bool {
					asked++
					return time.Since(start) >= after
				}
				want(t, outcome(b, req), expected)
				<-ended
				if waited := time.Since(start); waited < after || waited > after+poll || asked != int(waited/poll) {
					t.Errorf("asked %d times in %v", asked, waited)
				}
				if s := b.Stats(); s.Live != 0 || s.Endpoints[0].InFlight != 0 || s.Endpoints[0].Open != 0 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
	const gone = "GH-AD-001 client_gone gone"
	f("before the answer", get(), "", gone+" attempts=1", 5*time.Second)
	f("at once", get(), "", gone+" attempts=1", 0)
	f("behind a small body", post("x"), "", gone+" attempts=1", time.Second)
	f("behind a large body", post(strings.Repeat("x", 100_000)), "", gone+" attempts=1", time.Second)
	f("in the header section", get(), answer[:20], gone+" attempts=1", time.Second)
	f("in the body", get(), answer, `200 "ab" `+gone+" attempts=1", time.Second)
	f("in the body, behind a large one", post(strings.Repeat("x", 100_000)), answer, `200 "ab" `+gone+" attempts=1", time.Second)
	f("in a chunk", get(), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", `200 "ab" `+gone+" attempts=1", time.Second)
}

// A client that stays does not change a deadline, and is not asked for where
// nothing is waited for.
func TestStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		delay := time.Duration(0)
		b, end := inMemory(t, gatehouse.Backend{Timeouts: gatehouse.Timeouts{FirstByte: seconds(10)}}, func(p *peer) {
			for p.request() != "" {
				<-time.After(delay)
				p.send(ok)
			}
		})
		defer end()
		asked := 0
		req := get()
		req.Gone = func() bool { asked++; return false }
		f := func(d time.Duration, expected string, least, most int) {
			t.Helper()
			delay, asked = d, 0
			start := time.Now()
			want(t, outcome(b, req), expected)
			if waited := time.Since(start); waited != min(d, 10*time.Second) || asked < least || asked > most {
				t.Errorf("asked %d times in %v", asked, waited)
			}
		}
		for range 20 {
			f(0, `200 "ok" attempts=1`, 0, 0)
			f(100*time.Millisecond, `200 "ok" attempts=1`, 0, 0)
		}
		f(9*time.Second, `200 "ok" attempts=1`, 35, 37)
		f(20*time.Second, `GH-FW-002 http_response_timeout attempts=1`, 38, 41)
	})
}
