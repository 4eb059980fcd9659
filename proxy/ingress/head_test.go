package ingress

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

func TestHeadEnd(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"nothing", "", "0"},
		{"begun", "G", "0"},
		{"line", "GET / HTTP/1.1\r\n", "0"},
		{"CR last", "GET / HTTP/1.1\r", "0"},
		{"all but one byte", "GET / HTTP/1.1\r\nHost: x\r\n\r", "0"},
		{"whole", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "27"},
		{"no fields", "GET / HTTP/1.1\r\n\r\n", "18"},
		{"what follows is not looked at", "GET / HTTP/1.1\r\n\r\n\n\x00\r", "18"},
		{"TLS", "\x16\x03\x01", "no request begins with this byte"},
		{"SSH", "SSH-2.0-OpenSSH_9.6\r\n", "malformed request line"},
		{"PROXY protocol 2", "\r\n\r\n\x00\r\nQUIT\n", "no request begins with this byte"},
		{"PROXY protocol 1", "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "malformed request line"},
		{"SMTP", "EHLO x\r\n", "malformed request line"},
		{"HTTP/0.9", "GET /\r\n", "malformed request line"},
		{"empty line", "\r\nGET /", "no request begins with this byte"},
		{"space first", " GET /", "no request begins with this byte"},
		{"bare LF", "GET / HTTP/1.1\n", "a line ends in LF without CR"},
		{"bare LF in a field", "GET / HTTP/1.1\r\nA: b\n", "a line ends in LF without CR"},
		{"LF LF", "GET / HTTP/1.1\r\nA: b\r\n\n", "a line ends in LF without CR"},
		{"bare CR", "GET / HTTP/1.1\rA", "a CR without LF"},
		{"bare CR in a line", "GET / HTTP/1.1\r\nA: b\rc\r\n", "a CR without LF"},
		{"CR CR LF", "GET / HTTP/1.1\r\r\n", "a CR without LF"},
		{"NUL", "GET /\x00", "a NUL in the request head"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := headEnd([]byte(tt.in), 0); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			got := "0"
			for n := 1; n <= len(tt.in) && got == "0"; n++ { // byte by byte
				got = headEnd([]byte(tt.in[:n]), n-1)
			}
			if got != tt.want {
				t.Errorf("byte by byte: got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func headEnd(b []byte, from int) string {
	end, err := HeadEnd(b, from)
	if err != nil {
		_, message, _ := strings.Cut(picture(nil, err), " ")
		return message
	}
	return fmt.Sprint(end)
}

// naiveHeadEnd reads all bytes one by one.
func naiveHeadEnd(b []byte) (end int, ok bool) {
	if len(b) > 0 && !isToken(b[:1]) {
		return 0, false
	}
	for i, c := range b {
		switch {
		case c == 0, c == '\n' && (i == 0 || b[i-1] != '\r'), i > 0 && b[i-1] == '\r' && c != '\n':
			return 0, false
		case c == '\n' && bytes.Count(b[:i], []byte("\n")) == 0:
			f := strings.Split(string(b[:i-1]), " ")
			if len(f) < 3 || f[0] == "" || len(f) == 3 && f[1] == "" || !strings.HasPrefix(f[len(f)-1], "HTTP/") {
				return 0, false
			}
		case c == '\n' && strings.HasSuffix(string(b[:i+1]), "\r\n\r\n"):
			return i + 1, true
		}
	}
	return 0, true
}

// The law: HeadEnd agrees with the naive reading, wherever the bytes are cut
// on arrival.
func FuzzHeadEnd(f *testing.F) {
	for _, s := range []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n\n", "GET / HTTP/1.1\r\r\n", "G\x00", "GET / HTTP/1.1\r\n\r\n", "\r\n\r\n", "G\n", "A  HTTP/\r\n"} {
		f.Add([]byte(s), uint8(0))
		f.Add([]byte(s), uint8(3))
	}
	f.Fuzz(func(t *testing.T, b []byte, step uint8) {
		want, ok := naiveHeadEnd(b)
		got, err := HeadEnd(b, 0)
		if got != want || (err == nil) != ok {
			t.Fatalf("got %d %v, want %d %v", got, err, want, ok)
		}
		from := 0
		for n := 0; ; {
			n = min(n+1+int(step%7), len(b))
			part, err := HeadEnd(b[:n], from)
			if whole, ok := naiveHeadEnd(b[:n]); part != whole || (err == nil) != ok {
				t.Fatalf("%d of %d: got %d %v, want %d %v", n, len(b), part, err, whole, ok)
			}
			if part > 0 || err != nil || n == len(b) {
				return
			}
			from = n
		}
	})
}

const browserHead = "GET /api/tracks/42?x=1 HTTP/1.1\r\nHost: studio.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0)\r\n" +
	"Accept: text/html,application/xhtml+xml\r\nAccept-Language: en-GB,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\n" +
	"Authorization: Bearer gh_0123456789abcdef\r\nX-Request-Id: 0194c0de-7000\r\nConnection: keep-alive\r\n\r\n"

func TestParseHeadAllocates(t *testing.T) {
	head := []byte(browserHead)
	absolute := []byte("GET http://[2001:db8::1]:8080/a/%7e/../b HTTP/1.1\r\nHost: [2001:DB8::1]:8080\r\nConnection: close, x\r\nX: y\r\n\r\n")
	var r Request
	if n := testing.AllocsPerRun(100, func() {
		for _, h := range [][]byte{head, absolute} {
			r.Reset()
			if end, err := HeadEnd(h, 0); end != len(h) || r.ParseHead(h) != nil {
				t.Fatal(end, err)
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkParseHead(b *testing.B) {
	head := []byte(browserHead)
	var r Request
	b.ReportAllocs()
	for b.Loop() {
		r.Reset()
		if err := r.ParseHead(head); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHeadEnd(b *testing.B) {
	head := []byte(browserHead)
	b.ReportAllocs()
	for b.Loop() {
		if end, _ := HeadEnd(head, 0); end != len(head) {
			b.Fatal(end)
		}
	}
}
