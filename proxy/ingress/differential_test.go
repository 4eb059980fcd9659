package ingress

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse/proxy/ingress/corpus"
)

// explained are heads that are accepted here and refused by net/http, with
// what is in its error and why that is so.
var explained = map[string]string{
	"bad trailer key": "Trailer announces Content-Length: the announcement is not passed on, and such a trailer field is dropped",
}

// The law: what is accepted here, net/http accepts as well, and sees the same
// method, host, path, query, body length and end of the connection.
func FuzzParseHead(f *testing.F) {
	cases, err := corpus.Load("testdata")
	if err != nil {
		f.Fatal(err)
	}
	public, err := corpus.LoadPublic("testdata/public")
	if err != nil {
		f.Fatal(err)
	}
	for _, c := range append(cases, public...) {
		if len(c.Raw) < 1<<10 {
			f.Add(c.Raw)
		}
	}
	f.Add([]byte("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: Content-Length\r\n\r\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		end, err := HeadEnd(raw, 0)
		var r Request
		if whole := r.ParseHead(raw); whole == nil && (err != nil || end != len(raw)) {
			t.Fatalf("accepted, but it ends at %d: %v", end, err)
		}
		r.Reset()
		if end == 0 || r.ParseHead(raw[:end]) != nil {
			return
		}
		theirs, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw[:end])))
		if err != nil {
			for text := range explained {
				if strings.Contains(err.Error(), text) {
					return
				}
			}
			t.Fatalf("net/http refuses what is accepted here: %v", err)
		}
		if a, b := ours(t, &r), seen(t, theirs, r.Separators); a != b {
			t.Fatalf("ours   %s\ntheirs %s", a, b)
		}
	})
}

func ours(t *testing.T, r *Request) string {
	t.Helper()
	path := "-"
	if !r.Separators {
		var err error
		if path, err = url.PathUnescape(string(r.Path)); err != nil {
			t.Fatal(err)
		}
	}
	return fmt.Sprintf("%s %s %q %v?%s %d %v", r.Method, r.Authority, path, r.HasQuery, r.Query, r.BodyLength, r.Close)
}

// seen is what net/http made of a head. Its path is decoded, and made
// canonical here; with separators that cannot be done.
func seen(t *testing.T, r *http.Request, separators bool) string {
	t.Helper()
	var host Request
	if !host.parseHost([]byte(r.Host)) {
		t.Fatalf("host %q", r.Host)
	}
	p := r.URL.Path
	switch {
	case separators:
		p = "-"
	case r.RequestURI == "*":
	default:
		last := p[strings.LastIndexByte(p, '/')+1:]
		if p = path.Clean("/" + p); p != "/" && (last == "" || last == "." || last == "..") {
			p += "/"
		}
	}
	closes := r.Close || r.ProtoMinor == 0
	return fmt.Sprintf("%s %s %q %v?%s %d %v", r.Method, host.Authority, p, r.URL.ForceQuery || r.URL.RawQuery != "", r.URL.RawQuery, r.ContentLength, closes)
}
