package ingress

import (
	"bytes"
	"path"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
)

func TestAppendPath(t *testing.T) {
	for raw, want := range map[string]string{
		"":                      "/",
		"/":                     "/",
		"/a/b":                  "/a/b",
		"/a//b///c/":            "/a/b/c/",
		"/a/./b/.":              "/a/b/",
		"/a/b/../c":             "/a/c",
		"/a/b/..":               "/a/",
		"/../../etc/passwd":     "/etc/passwd",
		"/%7euser/%41%2e%2E/x":  "/~user/A../x",
		"/a/%2e%2e/b":           "/b",
		"/a%20b%c3%a4":          "/a%20b%C3%A4",
		"/a;v=1/b":              "/a;v=1/b",
		"/..a/...":              "/..a/...",
		"/...;a":                "/...;a",
		"/a%252fb/%252e%252E/c": "/a%252fb/%252e%252E/c",
		"/public/../api/x":      "/api/x",
		"/public/%2e%2e/api/x/": "/api/x/",
		"/a%2f..%2Fb\\c%5c":     "/a%2F..%2Fb%5Cc%5C",
		"/%2f":                  "/%2F",
		"/a%2":                  "refused",
		"/a%":                   "refused",
		"/a%zz":                 "refused",
		"/a%00":                 "refused",
		"/a%7F":                 "refused",
		"/a\x7f":                "refused",
		"/a b":                  "refused",
		"/ä":                    "refused",
		"/a?b":                  "refused",
		"/..;/a":                "refused",
		"/a/..;x=1":             "refused",
		"/.;/a":                 "refused",
		"/;/a":                  "refused",
		"/a/;x":                 "refused",
		"/a/%2e.%3bx/b":         "refused",
	} {
		got, _, ok := appendPath([]byte("x"), []byte(raw), false)
		if !ok {
			got = append(got, "refused"...)
		}
		if string(got) != "x"+want {
			t.Errorf("%q: got %q, want %q", raw, got, want)
		}
	}
}

func TestApplyPathMode(t *testing.T) {
	for _, tt := range []struct{ target, reject, normalize, raw string }{
		{"/a/b", "/a/b", "/a/b", "/a/b"},
		{"*", "*", "*", "*"},
		{"http://x", "/", "/", "/"},
		{"/a//%7eb/%c3", "/a/~b/%C3", "/a/~b/%C3", "/a//~b/%C3 changed"},
		{"/a/../b", "/b", "/b", "400"},
		{"/a/%2e%2E/b", "/b", "/b", "400"},
		{"/a%2fb", "400", "/a/b changed", "/a%2Fb"},
		{"/a%2Fb", "400", "/a/b changed", "/a%2Fb"},
		{"/a\\b%5C", "400", "/a/b/ changed", "/a%5Cb%5C"},
		{"/a/..%2fb", "400", "/b changed", "400"},
		{"/a/x%2F..%2F../b", "400", "/b changed", "400"},
		{"/a/x\\..\\..\\b", "400", "/b changed", "400"},
		{"/a/b%2Fc/../d", "400", "/a/b/d changed", "400"},
		{"/a%2F..;/b", "400", "400", "400"},
		{"/a%2F.%3B/b", "400", "400", "400"},
		{"/%2f%2fa", "400", "/a changed", "/%2F%2Fa"},
		{"/a%252fb", "/a%252fb", "/a%252fb", "/a%252fb"},
		{"/a/...", "/a/...", "/a/...", "/a/..."},
	} {
		for mode, want := range map[gatehouse.PathMode]string{
			"": tt.reject, gatehouse.PathReject: tt.reject, "unknown": tt.reject,
			gatehouse.PathNormalize: tt.normalize, gatehouse.PathRaw: tt.raw,
		} {
			var r Request
			method := "GET"
			if tt.target == "*" {
				method = "OPTIONS"
			}
			if err := parse(&r, method+" "+tt.target+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			changed, err := r.ApplyPathMode(mode)
			got := string(r.Path)
			if changed {
				got += " changed"
			}
			if err != nil {
				if got = "400"; gatehouse.CodeOf(err) != gatehouse.CodeBadRequest {
					got = err.Error()
				}
			}
			if got != want {
				t.Errorf("%s as %q: got %s, want %s", tt.target, mode, got, want)
			}
			if mode == gatehouse.PathNormalize && err == nil && r.Separators {
				t.Errorf("%s: a normalised path has separators", tt.target)
			}
		}
	}
}

// lenient is what the most forgiving backend makes of a path: it decodes
// first, takes backslashes for slashes and drops parameters.
func lenient(p []byte) string {
	var b strings.Builder
	for i := 0; i < len(p); i++ {
		c := p[i]
		if c == '%' {
			c = byte(Unhex(p[i+1])<<4 | Unhex(p[i+2]))
			i += 2
		}
		if c == '\\' {
			c = '/'
		}
		b.WriteByte(c)
	}
	segments := strings.Split(b.String(), "/")
	for i, s := range segments {
		segments[i], _, _ = strings.Cut(s, ";")
	}
	return strings.Join(segments, "/")
}

// The laws of canonical paths:
//
//   - A canonical path is its own canonical form, without empty and dot segments.
//   - Whatever prefix of whole segments the path was matched by, what a lenient
//     backend makes of the path that is passed on is below the same, in each mode.
//   - In the modes reject and normalize such a backend finds the segments that
//     the gateway found; in raw, what it would find in the path as sent,
//     where nothing climbs.
func FuzzAppendPath(f *testing.F) {
	for _, s := range []string{"/a/../b", "/%2e%2e/", "/a//b", "/..;/", "/%25%32%65", "/a/.%2e/b", "/a%2f..%5C../b", "/a\\..\\b;x/%3b", "/p/%2F/;"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		once, met, ok := appendPath(nil, raw, false)
		if !ok {
			return
		}
		canonical(t, raw, once)
		if !bytes.HasPrefix(raw, []byte("/")) {
			return
		}
		for _, mode := range []gatehouse.PathMode{gatehouse.PathReject, gatehouse.PathNormalize, gatehouse.PathRaw} {
			r := Request{Path: once, RawPath: raw, Separators: met&separates != 0}
			if _, err := r.ApplyPathMode(mode); err != nil {
				continue
			}
			below := once // what the route was found by, or found again
			if mode != gatehouse.PathRaw {
				below = r.Path
				canonical(t, raw, below)
				if r.Separators {
					t.Fatalf("%s: %q → %q has separators", mode, raw, r.Path)
				}
				if got, want := path.Clean(lenient(r.Path)), strings.TrimSuffix(lenient(r.Path), "/"); got != want && got != "/" {
					t.Fatalf("%s: %q → %q: %q is not %q", mode, raw, r.Path, got, want)
				}
			} else if got, want := path.Clean(lenient(raw)), path.Clean(lenient(once)); got != want {
				t.Fatalf("raw: %q is read as %q, the canonical form as %q", raw, got, want)
			}
			resolved := path.Clean(lenient(r.Path)) + "/"
			for i, c := range below {
				if c != '/' {
					continue
				}
				if prefix := path.Clean(lenient(below[:i+1])); prefix != "/" && !strings.HasPrefix(resolved, prefix+"/") {
					t.Fatalf("%s: %q → %q → %q leaves %q", mode, raw, r.Path, resolved, prefix)
				}
			}
		}
	})
}

func canonical(t *testing.T, raw, once []byte) {
	t.Helper()
	twice, _, ok := appendPath(nil, once, false)
	if !ok || !bytes.Equal(once, twice) {
		t.Fatalf("%q → %q → %q %v", raw, once, twice, ok)
	}
	if once[0] != '/' || bytes.Contains(once, []byte("//")) {
		t.Fatalf("%q → %q", raw, once)
	}
	for s := range bytes.SplitSeq(once[1:], []byte("/")) {
		if string(s) == "." || string(s) == ".." {
			t.Fatalf("%q → %q", raw, once)
		}
	}
}
