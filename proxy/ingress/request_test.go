package ingress

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
)

// parse reads "METHOD TARGET PROTOCOL\r\n" and a header section.
func parse(r *Request, head string) error {
	line, raw, _ := strings.Cut(head, "\r\n")
	parts := strings.SplitN(line, " ", 3)
	r.Reset()
	return r.Parse([]byte(parts[0]), []byte(parts[1]), []byte(parts[2]), []byte(raw))
}

func picture(r *Request, err error) string {
	if err != nil {
		e, _ := errors.AsType[*gatehouse.Error](err)
		return fmt.Sprint(gatehouse.Problems[e.Code].Status, " ", e.Message)
	}
	query := ""
	if r.HasQuery {
		query = "?" + string(r.Query)
	}
	s := fmt.Sprintf("%s %s %s%s %d", r.Method, r.Authority, r.Path, query, r.BodyLength)
	if r.Separators {
		s += " with separators"
	}
	return s
}

func TestParse(t *testing.T) {
	tests := []struct{ name, head, want string }{
		{"plain", "GET /a HTTP/1.1|Host: x||", "GET x /a 0"},
		{"host is made canonical", "GET /a?b=%zz HTTP/1.1|hOST:  Studio.Example.COM.:8080\t||", "GET studio.example.com:8080 /a?b=%zz 0"},
		{"IPv6 host", "GET / HTTP/1.1|Host: [2001:DB8:0::1]:80||", "GET [2001:db8::1]:80 / 0"},
		{"length", "POST /a HTTP/1.1|Host: x|Content-Length: 12||", "POST x /a 12"},
		{"chunked", "POST /a HTTP/1.1|Host: x|Transfer-Encoding: Chunked||", "POST x /a -1"},
		{"absolute form", "GET http://x/a HTTP/1.1|Host: x||", "GET x /a 0"},
		{"absolute form without path", "GET http://x?q HTTP/1.1|Host: x||", "GET x /?q 0"},
		{"asterisk form", "OPTIONS * HTTP/1.1|Host: x||", "OPTIONS x * 0"},
		{"1.0 with host", "GET /a HTTP/1.0|Host: x||", "GET x /a 0"},

		{"RFC 9112 6.1: length and coding", "POST /a HTTP/1.1|Host: x|Content-Length: 3|Transfer-Encoding: chunked||", "400 both Content-Length and Transfer-Encoding"},
		{"RFC 9112 6.3: equal lengths twice", "POST /a HTTP/1.1|Host: x|Content-Length: 3|Content-Length: 3||", "400 more than one Content-Length"},
		{"list of lengths", "POST /a HTTP/1.1|Host: x|Content-Length: 3, 3||", "400 malformed Content-Length"},
		{"signed length", "POST /a HTTP/1.1|Host: x|Content-Length: +3||", "400 malformed Content-Length"},
		{"hexadecimal length", "POST /a HTTP/1.1|Host: x|Content-Length: 0x3||", "400 malformed Content-Length"},
		{"overflowing length", "POST /a HTTP/1.1|Host: x|Content-Length: 9999999999999999999||", "400 malformed Content-Length"},
		{"empty length", "POST /a HTTP/1.1|Host: x|Content-Length:||", "400 malformed Content-Length"},
		{"identity coding", "POST /a HTTP/1.1|Host: x|Transfer-Encoding: identity||", "501 only Transfer-Encoding: chunked is understood"},
		{"two codings", "POST /a HTTP/1.1|Host: x|Transfer-Encoding: gzip, chunked||", "501 only Transfer-Encoding: chunked is understood"},
		{"chunked twice", "POST /a HTTP/1.1|Host: x|Transfer-Encoding: chunked|Transfer-Encoding: chunked||", "400 more than one Transfer-Encoding"},
		{"vertical tab hides a coding", "POST /a HTTP/1.1|Host: x|Transfer-Encoding: \vchunked||", "400 control character in a header value"},
		{"coding in 1.0", "POST /a HTTP/1.0|Host: x|Transfer-Encoding: chunked||", "400 Transfer-Encoding in HTTP/1.0"},
		{"space in a name", "GET /a HTTP/1.1|Host: x|Content Length: 3||", "400 malformed header name"},
		{"space before the colon", "GET /a HTTP/1.1|Host: x|Foo : 3||", "400 malformed header name"},
		{"no colon", "GET /a HTTP/1.1|Host: x|Foo||", "400 malformed header name"},
		{"empty name", "GET /a HTTP/1.1|Host: x|: 3||", "400 malformed header name"},
		{"RFC 9112 5.2: folded line", "GET /a HTTP/1.1|Host: x|Foo: a| b: c||", "400 folded header line"},
		{"RFC 9112 2.2: bare LF", "GET /a HTTP/1.1|Host: x\nFoo: a||", "400 a header line does not end in CR LF"},
		{"bare CR", "GET /a HTTP/1.1|Host: x|Foo: a\rb||", "400 control character in a header value"},
		{"NUL", "GET /a HTTP/1.1|Host: x|Foo: a\x00||", "400 control character in a header value"},
		{"RFC 9112 3.2: no host", "GET /a HTTP/1.1|Foo: x||", "400 exactly one Host is expected"},
		{"two hosts", "GET /a HTTP/1.1|Host: x|Host: x||", "400 exactly one Host is expected"},
		{"empty host", "GET /a HTTP/1.1|Host:||", "400 malformed Host"},
		{"user information in host", "GET /a HTTP/1.1|Host: a@b||", "400 malformed Host"},
		{"path in host", "GET /a HTTP/1.1|Host: a/b||", "400 malformed Host"},
		{"list of hosts", "GET /a HTTP/1.1|Host: a, b||", "400 malformed Host"},
		{"empty label", "GET /a HTTP/1.1|Host: a..b||", "400 malformed Host"},
		{"bad port", "GET /a HTTP/1.1|Host: a:99999||", "400 malformed Host"},
		{"zone in host", "GET /a HTTP/1.1|Host: [fe80::1%25eth0]||", "400 malformed Host"},
		{"absolute form of another host", "GET http://evil/a HTTP/1.1|Host: x||", "400 Host differs from the request target"},
		{"absolute form with user information", "GET http://x@evil/a HTTP/1.1|Host: x||", "400 Host differs from the request target"},
		{"other scheme", "GET ftp://x/a HTTP/1.1|Host: x||", "400 malformed request target"},
		{"fragment", "GET /a#b HTTP/1.1|Host: x||", "400 character not allowed in the request target"},
		{"raw non-ASCII", "GET /ä HTTP/1.1|Host: x||", "400 character not allowed in the request target"},
		{"asterisk for GET", "GET * HTTP/1.1|Host: x||", "400 * is a target for OPTIONS only"},
		{"encoded slash stays encoded", "GET /a%2fb/..%2fc HTTP/1.1|Host: x||", "GET x /a%2Fb/..%2Fc 0 with separators"},
		{"backslashes are encoded", "GET /a%5cb\\c HTTP/1.1|Host: x||", "GET x /a%5Cb%5Cc 0 with separators"},
		{"encoded NUL", "GET /a%00 HTTP/1.1|Host: x||", "400 path not allowed"},
		{"cut escape", "GET /a%2 HTTP/1.1|Host: x||", "400 path not allowed"},
		{"CVE-2020-5902 manner: dot segment with parameter", "GET /a/..;/b HTTP/1.1|Host: x||", "400 path not allowed"},
		{"version 1.2", "GET /a HTTP/1.2|Host: x||", "505 only HTTP/1.1 and HTTP/1.0 are spoken here"},
		{"version 2.0", "PRI * HTTP/2.0|Host: x||", "505 only HTTP/1.1 and HTTP/1.0 are spoken here"},
		{"CONNECT", "CONNECT x:443 HTTP/1.1|Host: x:443||", "405 CONNECT and TRACE are not served"},
		{"TRACE", "TRACE / HTTP/1.1|Host: x||", "405 CONNECT and TRACE are not served"},
		{"method", "G@T / HTTP/1.1|Host: x||", "400 malformed method"},
		{"expectation", "POST / HTTP/1.1|Host: x|Expect: foo|Content-Length: 1||", "417 only Expect: 100-continue is understood"},
		{"Connection names Authorization", "GET / HTTP/1.1|Host: x|Connection: close, authorization||", "400 Connection names a field that is not hop-by-hop"},
		{"Connection names ours", "GET / HTTP/1.1|Host: x|Connection: X-Gatehouse-Tenant||", "400 Connection names a field that is not hop-by-hop"},
		{"too many lines", "GET / HTTP/1.1|Host: x|" + strings.Repeat("a: b|", MaxFields) + "|", "431 too many header lines"},
	}
	var r Request
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := parse(&r, strings.ReplaceAll(tt.head, "|", "\r\n"))
			if got := picture(&r, err); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestHopByHop(t *testing.T) {
	var r Request
	err := parse(&r, "GET / HTTP/1.1\r\nHost: x\r\nX-Secret: 1\r\nConnection: close\r\nconnection: x-secret\r\nTE: trailers\r\nHTTP2-Settings: AA\r\nUpgrade: h2c\r\nProxy-Connection: close\r\nX-Gatehouse-Tenant: a\r\nX_Gatehouse_Principal: a\r\nx-gatehouse_principal_x: b\r\nX_Forwarded_For: c\r\nContent_Length: 5\r\nX-Plain: 2\r\nX_Plain: 2\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	var kept []string
	for _, f := range r.Fields {
		if f.Kind == Other {
			kept = append(kept, string(f.Name))
		}
	}
	if got := strings.Join(kept, " "); got != "X-Plain X_Plain" {
		t.Errorf("end-to-end fields: %s", got)
	}
}

// The law: what is accepted reads the same when written out plainly and read
// again.
func FuzzParse(f *testing.F) {
	f.Add("GET", "/a?b", "Host: x\r\nA: b\r\n\r\n")
	f.Add("POST", "http://x/", "Host: x\r\nContent-Length: 1\r\n\r\n")
	f.Fuzz(func(t *testing.T, method, target, raw string) {
		var r, again Request
		if r.Parse([]byte(method), []byte(target), []byte("HTTP/1.1"), []byte(raw)) != nil {
			return
		}
		var b strings.Builder
		for _, f := range r.Fields {
			fmt.Fprintf(&b, "%s: %s\r\n", f.Name, f.Value)
		}
		uri := string(r.Path)
		if r.HasQuery {
			uri += "?" + string(r.Query)
		}
		if err := again.Parse(r.Method, []byte(uri), []byte("HTTP/1.1"), []byte(b.String()+"\r\n")); err != nil {
			t.Fatal(err)
		}
		if a, b := picture(&r, nil), picture(&again, nil); a != b {
			t.Fatalf("%s\n%s", a, b)
		}
	})
}
