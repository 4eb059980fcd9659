package upstream

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// parsed tells how b is read as an answer's header section.
func parsed(b []byte) string {
	end, err := headEnd(b, 0)
	if err != nil {
		return err.Error()
	}
	if end == 0 {
		return "more"
	}
	h := &head{}
	if err := h.parse(b[:end]); err != nil {
		return err.Error()
	}
	s := fmt.Sprintf("%d", h.status)
	if h.length >= 0 {
		s += fmt.Sprintf(" length=%d", h.length)
	}
	if h.chunked {
		s += " chunked"
	}
	if h.close {
		s += " close"
	}
	for _, f := range h.fields {
		s += fmt.Sprintf(" %s=%q", f.Name, f.Value)
	}
	return s
}

func TestParse(t *testing.T) {
	f := func(answer, expected string) {
		t.Helper()
		want(t, parsed([]byte(answer)), expected)
	}
	f("HTTP/1.1 200 OK\r\n\r\n", `200`)
	f("HTTP/1.1 200 \r\n\r\n", `200`)
	f("HTTP/1.1 200\r\n\r\n", `200`)
	f("HTTP/1.0 999 Out of \xe9toiles\r\n\r\nrest", `999 close`)
	f("HTTP/1.1 200 OK\r\nA:\r\nB: \t x y \t\r\nA:z\r\n\r\n", `200 A="" B="x y" A="z"`)
	f("HTTP/1.1 200 OK\r\ncontent-LENGTH: 007\r\n\r\n", `200 length=7 content-LENGTH="007"`)
	f("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", `200 chunked Transfer-Encoding="Chunked"`)
	f("HTTP/1.1 200 OK\r\nConnection: a,\tCLOSE ,b\r\n\r\n", `200 close Connection="a,\tCLOSE ,b"`)
	f("HTTP/1.1 200 OK\r\nConnection: closed\r\n\r\n", `200 Connection="closed"`)

	f("", `more`)
	f("HTTP/1", `more`)
	f("HTTP/1.1 200 OK\r\n", `more`)
	f("HTTP/1.1 200 OK\r\nA: b\r\n\r", `more`)

	f("HTTP/2.0 200 OK\r\n\r\n", errVersion.reason)
	f("HTTP/1.2 200 OK\r\n\r\n", errVersion.reason)
	f("HTTP/0.9", errVersion.reason)
	f("http/1.1 200 OK\r\n\r\n", errVersion.reason)
	f("\r\nHTTP/1.1 200 OK\r\n\r\n", errVersion.reason)
	f("HTTP/1.1  200 OK\r\n\r\n", errStatusLine.reason)
	f("HTTP/1.1 20 OK\r\n\r\n", errStatusLine.reason)
	f("HTTP/1.1 2000 OK\r\n\r\n", errStatusLine.reason)
	f("HTTP/1.1 099 OK\r\n\r\n", errStatusLine.reason)
	f("HTTP/1.1 +20 OK\r\n\r\n", errStatusLine.reason)
	f("HTTP/1.1\t200 OK\r\n\r\n", errStatusLine.reason)
	f("HTTP/1.1 200 O\rK\r\n\r\n", errStatusLine.reason)
	f("HTTP/1.1 200 O\x00K\r\n\r\n", errStatusLine.reason)
	f("HTTP/1.1\r\n\r\n", errStatusLine.reason)

	f("HTTP/1.1 200 OK\n", errLineEnd.reason)
	f("HTTP/1.1 200 OK\r\nA: b\n", errLineEnd.reason)
	f("HTTP/1.1 200 OK\r\n\n", errLineEnd.reason)
	f("HTTP/1.1 200 OK\r\n A: b\r\n\r\n", errFolded.reason)
	f("HTTP/1.1 200 OK\r\nA: b\r\n\tc\r\n\r\n", errFolded.reason)
	f("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", errFieldName.reason)
	f("HTTP/1.1 200 OK\r\nA b: c\r\n\r\n", errFieldName.reason)
	f("HTTP/1.1 200 OK\r\n: c\r\n\r\n", errFieldName.reason)
	f("HTTP/1.1 200 OK\r\nAb\r\n\r\n", errFieldName.reason)
	f("HTTP/1.1 200 OK\r\n\x80: c\r\n\r\n", errFieldName.reason)
	f("HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n", errFieldValue.reason)
	f("HTTP/1.1 200 OK\r\nA: b\x00c\r\n\r\n", errFieldValue.reason)
	f("HTTP/1.1 200 OK\r\nA: b\x7f\r\n\r\n", errFieldValue.reason)
	f("HTTP/1.1 200 OK\r\nA: b\r\r\n\r\n", errFieldValue.reason)

	for _, v := range []string{"", "-1", "+1", "1 1", "1,1", "1, 1", "0x1", "1.0", strings.Repeat("9", 19)} {
		f("HTTP/1.1 200 OK\r\nContent-Length: "+v+"\r\n\r\n", errLength.reason)
	}
	f("HTTP/1.1 200 OK\r\nContent-Length: 1\r\ncontent-length: 1\r\n\r\n", errLengths.reason)
	f("HTTP/1.1 200 OK\r\nContent-Length: 1\r\ncontent-length: 2\r\n\r\n", errLengths.reason)
	f("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", errFraming.reason)
	f("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", errFraming.reason)
	for _, v := range []string{"", "identity", "gzip, chunked", "chunked, chunked", "chunked;q=1", "xchunked", "chunked\x0b"} {
		if got := parsed([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: " + v + "\r\n\r\n")); got != errCoding.reason && got != errFieldValue.reason {
			t.Errorf("Transfer-Encoding %q: %s", v, got)
		}
	}
	f("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", errCoding.reason)
	f("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", errCoding.reason)
}

// However the bytes arrive, the end is found at the same place, or the same
// fault; and nothing behind the end matters.
func checkHeadEnd(t *testing.T, b []byte) (end int) {
	end, err := headEnd(b, 0)
	for cut := range len(b) {
		early, earlyErr := headEnd(b[:cut], 0)
		if earlyErr != nil && err == nil {
			t.Fatalf("%q: refused after %d bytes only: %v", b, cut, earlyErr)
		}
		if early != 0 && early != end {
			t.Fatalf("%q: ends at %d and %d", b, early, end)
		}
		if early == 0 && earlyErr == nil {
			if late, lateErr := headEnd(b, cut); late != end || (lateErr == nil) != (err == nil) {
				t.Fatalf("%q: resumed at %d: %d %v, at once %d %v", b, cut, late, lateErr, end, err)
			}
		}
	}
	return end
}

// FuzzParse holds the parser to its laws: it reads within the header section,
// takes only what it would take again when serialised, and what it takes has
// one framing.
func FuzzParse(f *testing.F) {
	f.Add([]byte(ok))
	f.Add([]byte("HTTP/1.0 304 \r\nA: b\r\nConnection: close, x\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nA: 1\r\n B\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 512 {
			b = b[:512]
		}
		end := checkHeadEnd(t, b)
		if end == 0 {
			return
		}
		if !bytes.HasSuffix(b[:end], []byte("\r\n\r\n")) || bytes.Contains(b[:end-1], []byte("\r\n\r\n")) {
			t.Fatalf("%q ends at %d", b, end)
		}
		h := &head{}
		if h.parse(b[:end:end]) != nil {
			return
		}
		if h.chunked && h.length >= 0 {
			t.Fatalf("%q has two framings", b)
		}
		again := fmt.Appendf(nil, "HTTP/1.%d %d \r\n", h.minor, h.status)
		for _, f := range h.fields {
			again = append(append(append(append(again, f.Name...), ": "...), f.Value...), "\r\n"...)
		}
		again = append(again, "\r\n"...)
		if first, second := parsed(b), parsed(again); first != second {
			t.Fatalf("%q is %s, but serialised %s", b, first, second)
		}
	})
}
