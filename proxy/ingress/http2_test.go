package ingress

import (
	"fmt"
	"strings"
	"testing"
)

// parseHTTP2 reads "METHOD SCHEME AUTHORITY PATH", "-" for nothing, and fields
// on lines of their own; a last line of "more" leaves the stream open.
func parseHTTP2(r *Request, head string) error {
	lines := strings.Split(head, "\n")
	pseudo := strings.Split(lines[0], " ")
	for i, p := range pseudo {
		if p == "-" {
			pseudo[i] = ""
		}
	}
	var fields []Field
	ended := true
	for _, line := range lines[1:] {
		if line == "more" {
			ended = false
			continue
		}
		name, value, _ := strings.Cut(line, "=")
		fields = append(fields, Field{Name: []byte(name), Value: []byte(value)})
	}
	r.Reset()
	return r.ParseHTTP2([]byte(pseudo[0]), []byte(pseudo[1]), []byte(pseudo[2]), []byte(pseudo[3]), fields, ended)
}

func fieldsOf(r *Request) string {
	var b strings.Builder
	for _, f := range r.Fields {
		fmt.Fprintf(&b, " %s=%s", f.Name, f.Value)
	}
	return b.String()
}

func TestParseHTTP2(t *testing.T) {
	for _, tt := range []struct{ name, head, want string }{
		{"plain", "GET https x.test /a?b\naccept=*/*", "GET x.test /a?b 0 host=x.test accept=*/*"},
		{"made canonical", "GET https X.Test.:81 /a/%2e%2E/%7eb", "GET x.test:81 /~b 0 host=X.Test.:81"},
		{"host in place of authority", "GET https - /\nhost=x.test", "GET x.test / 0 host=x.test"},
		{"host and authority", "GET https x.test /\na=b\nhost=X.test", "GET x.test / 0 a=b host=X.test"},
		{"host differs", "GET https x.test /\nhost=y.test", "400 Host differs from the request target"},
		{"port of host differs", "GET https x.test:81 /\nhost=x.test", "400 Host differs from the request target"},
		{"two hosts", "GET https x.test /\nhost=x.test\nhost=x.test", "400 exactly one Host is expected"},
		{"no host", "GET https - /", "400 malformed Host"},
		{"user information", "GET https u@x.test /", "400 malformed Host"},
		{"asterisk", "OPTIONS https x.test *", "OPTIONS x.test * 0 host=x.test"},
		{"asterisk for GET", "GET https x.test *", "400 * is a target for OPTIONS only"},
		{"no path", "GET https x.test -", "400 malformed :path"},
		{"absolute path", "GET https x.test https://x.test/", "400 malformed :path"},
		{"fragment", "GET https x.test /#a", "400 character not allowed in the request target"},
		{"CR in the path", "GET https x.test /\r", "400 character not allowed in the request target"},
		{"scheme", "GET ftp x.test /", "400 the scheme is neither http nor https"},
		{"no scheme", "GET - x.test /", "400 the scheme is neither http nor https"},
		{"CONNECT", "CONNECT - x.test -", "405 CONNECT and TRACE are not served"},
		{"TRACE", "TRACE https x.test /", "405 CONNECT and TRACE are not served"},
		{"method with a line break", "GET/\rX: https x.test /", "400 malformed method"},
		{"body of unknown length", "POST https x.test /\nmore", "POST x.test / -1 host=x.test"},
		{"body of known length", "POST https x.test /\ncontent-length=5\nmore", "POST x.test / 5 host=x.test content-length=5"},
		{"length and no body", "POST https x.test /\ncontent-length=5", "400 Content-Length promises a body, and there is none"},
		{"length 0 and no body", "POST https x.test /\ncontent-length=0", "POST x.test / 0 host=x.test content-length=0"},
		{"two lengths", "POST https x.test /\ncontent-length=5\ncontent-length=5\nmore", "400 more than one Content-Length"},
		{"signed length", "POST https x.test /\ncontent-length=+5\nmore", "400 malformed Content-Length"},
		{"upper case", "GET https x.test /\nAccept=*/*", "400 malformed header name"},
		{"empty name", "GET https x.test /\n=a", "400 malformed header name"},
		{"pseudo-header field among the fields", "GET https x.test /\n:path=/b", "400 malformed header name"},
		{"space in a name", "GET https x.test /\na b=c", "400 malformed header name"},
		{"CVE-2021-21295 manner: line break in a name", "GET https x.test /\na: b\r=c", "400 malformed header name"},
		{"CR in a value", "GET https x.test /\na=b\rc", "400 control character, or white space around, a header value"},
		{"NUL in a value", "GET https x.test /\na=b\x00c", "400 control character, or white space around, a header value"},
		{"space before a value", "GET https x.test /\na= b", "400 control character, or white space around, a header value"},
		{"tab behind a value", "GET https x.test /\na=b\t", "400 control character, or white space around, a header value"},
		{"connection", "GET https x.test /\nconnection=close", "400 a field that concerns a connection of HTTP/1.1"},
		{"proxy-connection", "GET https x.test /\nproxy-connection=close", "400 a field that concerns a connection of HTTP/1.1"},
		{"keep-alive", "GET https x.test /\nkeep-alive=timeout=5", "400 a field that concerns a connection of HTTP/1.1"},
		{"transfer-encoding", "POST https x.test /\ntransfer-encoding=chunked\nmore", "400 a field that concerns a connection of HTTP/1.1"},
		{"upgrade", "GET https x.test /\nupgrade=websocket", "400 a field that concerns a connection of HTTP/1.1"},
		{"te", "GET https x.test /\nte=trailers", "GET x.test / 0 host=x.test te=trailers"},
		{"te with more", "GET https x.test /\nte=trailers, gzip", "400 a field that concerns a connection of HTTP/1.1"},
		{"cookies", "GET https x.test /\ncookie=a=1\na=b\ncookie=b=2\ncookie=c=3", "GET x.test / 0 host=x.test cookie=a=1; b=2; c=3 a=b"},
		{"one cookie", "GET https x.test /\ncookie=a=1", "GET x.test / 0 host=x.test cookie=a=1"},
		{"empty cookies", "GET https x.test /\ncookie=\ncookie=a\ncookie=", "GET x.test / 0 host=x.test cookie=; a;"},
		{"expectation", "POST https x.test /\nexpect=foo\nmore", "417 only Expect: 100-continue is understood"},
		{"too many fields", "GET https x.test /" + strings.Repeat("\na=b", MaxFields), "431 too many header lines"},
		{"encoded slash", "GET https x.test /a%2fb", "GET x.test /a%2Fb 0 with separators host=x.test"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var r Request
			err := parseHTTP2(&r, tt.head)
			got := picture(&r, err)
			if err == nil {
				got += fieldsOf(&r)
			}
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if err == nil && (r.Major != 2 || r.Minor != 1 || r.Close) {
				t.Errorf("version %d.%d, close %v", r.Major, r.Minor, r.Close)
			}
		})
	}
}

// The law: what is accepted over HTTP/2 and written out as HTTP/1.1 is
// accepted there too, as the same request.
func FuzzParseHTTP2(f *testing.F) {
	f.Add("GET", "https", "x.test", "/a?b", "cookie=a=1\ncookie=b\nte=trailers\naccept=*/*", true)
	f.Add("POST", "http", "", "/%2f", "host=[::1]:80\ncontent-length=5", false)
	f.Add("OPTIONS", "http", "X.", "*", "expect=100-continue\nx_forwarded_for=a", false)
	f.Fuzz(func(t *testing.T, method, scheme, authority, path, lines string, ended bool) {
		var fields []Field
		for line := range strings.SplitSeq(lines, "\n") {
			if name, value, ok := strings.Cut(line, "="); ok {
				fields = append(fields, Field{Name: []byte(name), Value: []byte(value)})
			}
		}
		var r, again Request
		if r.ParseHTTP2([]byte(method), []byte(scheme), []byte(authority), []byte(path), fields, ended) != nil {
			return
		}
		head := fmt.Sprintf("%s %s HTTP/1.1\r\n", method, path)
		declared := false
		for _, f := range r.Fields {
			head += fmt.Sprintf("%s: %s\r\n", f.Name, f.Value)
			declared = declared || f.Kind == ContentLength
		}
		if r.BodyLength < 0 {
			head += "Transfer-Encoding: chunked\r\n"
		} else if !declared && r.BodyLength != 0 {
			t.Fatalf("a body of %d bytes without Content-Length", r.BodyLength)
		}
		head += "\r\n"
		if end, err := HeadEnd([]byte(head), 0); err != nil || end != len(head) {
			t.Fatalf("%q: %d %v", head, end, err)
		}
		if len(r.Fields) == MaxFields && r.BodyLength < 0 {
			return // no room for the coding
		}
		if err := again.ParseHead([]byte(head)); err != nil {
			t.Fatalf("%q: %v", head, err)
		}
		if r.BodyLength < 0 {
			again.Fields = again.Fields[:len(again.Fields)-1]
		}
		if a, b := picture(&r, nil)+fieldsOf(&r), picture(&again, nil)+fieldsOf(&again); a != b || r.Expect100 != again.Expect100 {
			t.Fatalf("%s %v\n%s %v", a, r.Expect100, b, again.Expect100)
		}
		for i := range r.Fields {
			if r.Fields[i].Kind != again.Fields[i].Kind {
				t.Fatalf("%s is of another kind", r.Fields[i].Name)
			}
		}
	})
}
