package http1

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse/proxy/ingress"
)

// feed is a client that has sent all it will, of which at most step bytes
// come at a time.
type feed struct {
	net.Conn
	left []byte
	step int
}

func (f *feed) Read(p []byte) (int, error) {
	if len(f.left) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), f.step)], f.left)
	f.left = f.left[n:]
	return n, nil
}

func (f *feed) SetReadDeadline(time.Time) error { return nil }

// The law: a chunked body that is taken here is taken by net/http too, as the
// same body with the same bytes behind it; and reading it leaves the head, which
// others still hold, as it is.
func FuzzChunks(f *testing.F) {
	for _, body := range []string{
		"3\r\nabc\r\n0\r\n\r\nGET / HTTP/1.1\r\n",
		"3;a=b;c=\"d\\\"\"\r\nabc\r\n0\r\nX: y\r\n\r\nrest",
		"000a;x\r\n0123456789\r\n0;y = z\r\nTE: x\r\nA:\r\n\r\n",
		"0\r\n\r\n",
		"0\r\nContent-Length: 5\r\nHost: b\r\n\r\n12345",
		"5\r\nhello\r\n00000000\r\n\r\n",
		"fF\r\n" + strings.Repeat("x", 255) + "\r\n0\r\n\r\n",
		"1388\r\n" + strings.Repeat("x", 5000) + "\r\n0\r\n\r\nGET /b HTTP/1.1\r\n\r\n", // more than the first buffer holds
		"1;" + strings.Repeat("e", 250) + "\r\na\r\n0\r\n\r\n",
		"3 \r\nabc\r\n0\r\n\r\n",
		"3\t;a\r\nabc\r\n0\r\n\r\n",
		"3\nabc\n0\n\n",
		"3x\nabc\r\n0\r\n\r\n",
		"3\r\nabc\r\n0\r\nA: b\rC: d\r\n\r\n",
		"3\r\nabcd\r\n0\r\n\r\n",
		"3\r\nabc\r\r\n0\r\n\r\n",
		"+3\r\nabc\r\n0\r\n\r\n",
		"0x3\r\nabc\r\n0\r\n\r\n",
		"-1\r\n\r\n",
		"8000000000000000\r\n",
		"ffffffffffffffff1\r\n",
		"3;\r\nabc\r\n0\r\n\r\n",
		"3;a=\"\r\n0\r\n\r\n\"\r\nabc\r\n0\r\n\r\n",
		"0\r\nX : y\r\n\r\n",
		"0\r\n folded\r\n\r\n",
		"3\r\nab",
		"",
	} {
		for _, step := range []int{1, 7, 1 << 16} {
			f.Add([]byte(body), step)
		}
	}
	const head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
	f.Fuzz(func(t *testing.T, in []byte, step int) {
		if step < 1 || step > 1<<16 {
			step = 1 << 16
		}
		all := append([]byte(head), in...)
		from := &feed{left: bytes.Clone(all), step: step}
		c := NewConn(from, config())
		defer c.Close()
		if err := c.Await(); err != nil {
			t.Fatal(err)
		}
		h, err := c.Head()
		if err != nil {
			t.Fatal(err)
		}
		var r ingress.Request
		if err := r.ParseHead(h); err != nil {
			t.Fatal(err)
		}
		c.Expect(&r)
		body, err := io.ReadAll(c)
		if string(h) != head {
			t.Fatalf("the head became %q", h)
		}
		if err != nil {
			return
		}
		rest := append(bytes.Clone(c.Buffered()), from.left...)
		reader := bufio.NewReaderSize(bytes.NewReader(all), len(all)+16)
		theirs, err := http.ReadRequest(reader)
		if err != nil {
			t.Fatal(err)
		}
		wantBody, err := io.ReadAll(theirs.Body)
		if err != nil {
			t.Fatalf("%q is taken here as %q, and net/http says %v", in, body, err)
		}
		wantRest, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(body, wantBody) || !bytes.Equal(rest, wantRest) {
			t.Fatalf("%q\nbody %q, then %q\nnet/http: %q, then %q", in, body, rest, wantBody, wantRest)
		}
	})
}
