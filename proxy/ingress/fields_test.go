package ingress

import (
	"strings"
	"testing"
)

func TestParseFieldLines(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"none", "|", ""},
		{"two", "A: b|grpc-status: 0||", " A=b grpc-status=0"},
		{"framing", "Content-Length: 5|Transfer-Encoding: chunked|Trailer: A|TE: trailers|Connection: A|A: b||", " A=b"},
		{"routing", "Host: y|Forwarded: for=x|X-Forwarded-For: y|X-Forwarded-Prefix: /|Via: z|X-Original-URL: /||", ""},
		{"credentials", "Authorization: x|Cookie: a|Set-Cookie: a|Proxy-Authorization: x|WWW-Authenticate: x|X-API-Key: k||", ""},
		{"modifiers", "If-Match: x|Range: x|Cache-Control: x|Max-Forwards: 1|Expect: 100-continue|X-HTTP-Method-Override: PUT||", ""},
		{"content", "content-type: x|Content-Encoding: gzip|Content-Range: x|Content-MD5: x|Digest: x||", " Digest=x"},
		{"our own", "X-Gatehouse-Tenant: a|X-Request-Id: x|traceparent: x||", ""},
		{"underscores", "Content_Length: 5|X_Gatehouse_Tenant: a|Set_Cookie: a|x_api_key: k|a_b: c|Content_Security_Policy_Report_Only_Too: x||", " a_b=c"},
		{"folded", "A: b| c||", "400 folded header line"},
		{"bare LF", "A: b\n|", "400 a header line does not end in CR LF"},
		{"LF alone", "A: b|\n|", "400 a header line does not end in CR LF"},
		{"no colon", "A||", "400 malformed header name"},
		{"no end", "A: b|", "400 header lines without an empty line at the end"},
		{"nothing", "", "400 header lines without an empty line at the end"},
		{"bytes behind", "A: b||C: d||", "400 bytes after the header section"},
		{"too many", strings.Repeat("A: b|", MaxFields+1) + "|", "431 too many header lines"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dst := []Field{{Name: []byte("first")}}
			fields, err := ParseFieldLines(dst, []byte(strings.ReplaceAll(tt.in, "|", "\r\n")))
			got := strings.TrimPrefix(fieldsOf(&Request{Fields: fields}), " first=")
			if err != nil {
				got = picture(nil, err)
			}
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestFieldValue(t *testing.T) {
	for n := range 20 {
		for at := range n {
			for c := range 256 {
				for _, around := range []string{"\xff", "b"} {
					b := []byte(strings.Repeat(around, n))
					b[at] = byte(c)
					if got, want := isFieldValue(b), c >= ' ' && c != 0x7f || c == '\t'; got != want {
						t.Fatalf("%q: got %v, want %v", b, got, want)
					}
				}
			}
		}
	}
}

// The law: eight bytes together are judged as one by one.
func FuzzFieldValue(f *testing.F) {
	f.Add([]byte("abcdefg\x7f"))
	f.Add([]byte("abc\tefg\x80\xff\x1f1234567"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, want := isFieldValue(b), isFieldText(b); got != want {
			t.Fatalf("%q: got %v, want %v", b, got, want)
		}
	})
}
