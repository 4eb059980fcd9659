package route

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/proxy/ingress"
	"pgregory.net/rapid"
)

func TestHosts(t *testing.T) {
	h := NewHosts[string]()
	names := []string{"a.test", "*.a.test", "x.a.test", "*.deep.a.test", "10.0.0.1", "[::1]"}
	set := map[string]*string{}
	for _, n := range names {
		set[n] = &n
	}
	h.Change(set, nil)
	find := func(host string) string {
		if v := h.Find([]byte(host)); v != nil {
			return *v
		}
		return "-"
	}
	for host, want := range map[string]string{
		"a.test": "a.test", "x.a.test": "x.a.test", "y.a.test": "*.a.test", "z.y.a.test": "*.a.test",
		"q.deep.a.test": "*.deep.a.test", "deep.a.test": "*.a.test", "b.test": "-", "test": "-", "": "-",
		"ba.test": "-", "10.0.0.1": "10.0.0.1", "[::1]": "[::1]", ".a.test": "*.a.test",
	} {
		if got := find(host); got != want {
			t.Errorf("%q: %s, want %s", host, got, want)
		}
	}
	other := "other"
	h.Change(map[string]*string{"b.test": &other}, []string{"*.a.test", "a.test"})
	for host, want := range map[string]string{"a.test": "-", "y.a.test": "-", "x.a.test": "x.a.test", "b.test": "other"} {
		if got := find(host); got != want {
			t.Errorf("after the change %q: %s, want %s", host, got, want)
		}
	}
	if h.Owner("*.deep.a.test") == nil || h.Owner("*.a.test") != nil || h.Owner("q.deep.a.test") != nil {
		t.Error("Owner is not exact")
	}
}

func routes(lines ...string) []gatehouse.Route {
	var rs []gatehouse.Route
	for _, line := range lines {
		parts := strings.Fields(line)
		r := gatehouse.Route{ID: gatehouse.RouteID(line), Match: gatehouse.Match{Path: parts[0]}}
		for _, p := range parts[1:] {
			if name, value, ok := strings.Cut(p, "="); ok {
				m := gatehouse.HeaderMatch{Name: name, Value: value}
				if expr, ok := strings.CutPrefix(value, "~"); ok {
					m = gatehouse.HeaderMatch{Name: name, Regex: expr}
				}
				r.Match.Headers = append(r.Match.Headers, m)
			} else {
				r.Match.Methods = append(r.Match.Methods, p)
			}
		}
		rs = append(rs, r)
	}
	return rs
}

func request(t testing.TB, method, path string, fields ...string) *ingress.Request {
	t.Helper()
	var r ingress.Request
	raw := "Host: x\r\n"
	for _, f := range fields {
		raw += strings.Replace(f, "=", ": ", 1) + "\r\n"
	}
	if err := r.Parse([]byte(method), []byte(path), []byte("HTTP/1.1"), []byte(raw+"\r\n")); err != nil {
		t.Fatal(err)
	}
	return &r
}

func TestMatch(t *testing.T) {
	rs := routes("/", "/api/", "/api/ GET", "/api/tracks", "/api/{kind}/", "/api/{kind}/{id}", "/api/tracks/{id} PUT DELETE",
		"/v GET X-V=2", "/v GET", "/v GET X-V=~^3", "/only/post POST", "/{$} GET")
	r, faults := Compile(rs)
	if faults != nil {
		t.Fatal(faults)
	}
	for _, tt := range []struct{ method, path, fields, want string }{
		{"GET", "/", "", "/{$} GET"},
		{"POST", "/", "", "/"},
		{"GET", "/other", "", "/"},
		{"GET", "/api", "", "/"},
		{"GET", "/api/", "", "/api/ GET"},
		{"POST", "/api/", "", "/api/"},
		{"HEAD", "/api/", "", "/api/ GET"},
		{"GET", "/api/tracks", "", "/api/tracks"},
		{"GET", "/api/tracks/", "", "/api/{kind}/"},
		{"GET", "/api/tracks/7", "", "/api/{kind}/{id}"},
		{"PUT", "/api/tracks/7", "", "/api/tracks/{id} PUT DELETE"},
		{"GET", "/api/tracks/7/x", "", "/api/{kind}/"},
		{"GET", "/v", "", "/v GET"},
		{"GET", "/v", "x-v=2", "/v GET X-V=2"},
		{"GET", "/v", "x-v=31", "/v GET X-V=~^3"},
		{"GET", "/only/post", "", "/"},
	} {
		got := "none"
		if i := r.Match(request(t, tt.method, tt.path, strings.Fields(tt.fields)...)); i >= 0 {
			got = string(rs[i].ID)
		}
		if got != tt.want {
			t.Errorf("%s %s %s: got %s, want %s", tt.method, tt.path, tt.fields, got, tt.want)
		}
	}
}

func TestAllow(t *testing.T) {
	r, _ := Compile(routes("/a GET", "/a/ POST", "/{x} DELETE", "/h PUT X-V=2"))
	for path, want := range map[string]string{"/a": "[DELETE GET HEAD]", "/a/b": "[POST]", "/b": "[DELETE]", "/h": "[DELETE]", "/x/y": "[]"} {
		if got := fmt.Sprint(r.Allow(request(t, "PATCH", path))); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

func TestCompileFaults(t *testing.T) {
	_, faults := Compile(routes("/a X=~(", "/a{b"))
	if got, want := faults.Error(), "/0/match/headers/0/regex: error parsing regexp: missing closing ): `(`\n/1/match/path: path \"/a{b\" has a malformed parameter in segment 1"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// naive is the law of Router written as a sort and a scan.
func naive(rs []gatehouse.Route, req *ingress.Request) int {
	rank := func(path string) []int {
		var ranks []int
		rest, prefix := strings.CutSuffix(path, "/")
		if path == "/{$}" {
			return []int{1}
		}
		for s := range strings.SplitSeq(strings.TrimPrefix(rest, "/"), "/") {
			switch {
			case s == "":
			case s[0] == '{':
				ranks = append(ranks, 2)
			default:
				ranks = append(ranks, 0)
			}
		}
		if prefix {
			ranks = append(ranks, 3)
		} else {
			ranks = append(ranks, 1)
		}
		return ranks
	}
	order := make([]int, len(rs))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		x, y := rs[a].Match, rs[b].Match
		return cmp.Or(slices.Compare(rank(x.Path), rank(y.Path)),
			compareBool(len(x.Methods) > 0, len(y.Methods) > 0), len(y.Headers)-len(x.Headers))
	})
	path := string(req.Path)
	for _, i := range order {
		m := rs[i].Match
		if len(m.Methods) > 0 && !slices.Contains(m.Methods, string(req.Method)) {
			continue
		}
		pattern, prefix := strings.CutSuffix(m.Path, "/")
		want, got := strings.Split(pattern, "/"), strings.Split(path, "/")
		if m.Path == "/{$}" {
			if path == "/" {
				return i
			}
			continue
		}
		if len(got) < len(want) || !prefix && len(got) != len(want) || prefix && len(got) <= len(want) {
			continue
		}
		ok := true
		for j, w := range want {
			if j > 0 && w[0] == '{' {
				ok = ok && got[j] != ""
			} else {
				ok = ok && got[j] == w
			}
		}
		if ok {
			return i
		}
	}
	return -1
}

func TestMatchAgreesWithNaive(t *testing.T) {
	segment := rapid.SampledFrom([]string{"a", "b", "{x}"})
	rapid.Check(t, func(t *rapid.T) {
		var lines []string
		for range rapid.IntRange(1, 12).Draw(t, "routes") {
			path := "/" + strings.Join(rapid.SliceOfN(segment, 0, 4).Draw(t, "path"), "/")
			if rapid.Bool().Draw(t, "prefix") && path != "/" {
				path += "/"
			}
			if path == "/" && rapid.Bool().Draw(t, "dollar") {
				path = "/{$}"
			}
			lines = append(lines, path+rapid.SampledFrom([]string{"", " POST", " PUT POST"}).Draw(t, "methods"))
		}
		for i, l := range lines { // parameter names must differ within a path
			for strings.Count(l, "{x}") > 0 {
				l = strings.Replace(l, "{x}", fmt.Sprintf("{p%d}", strings.Count(l, "{p")), 1)
			}
			lines[i] = l
		}
		rs := routes(lines...)
		r, faults := Compile(rs)
		if faults != nil {
			t.Fatal(faults)
		}
		var req ingress.Request
		path := "/" + strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c"}), 0, 5).Draw(t, "segments"), "/")
		if rapid.Bool().Draw(t, "slash") {
			path += "/"
		}
		method := rapid.SampledFrom([]string{"POST", "PUT"}).Draw(t, "method")
		if err := req.Parse([]byte(method), []byte(path), []byte("HTTP/1.1"), []byte("Host: x\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		if got, want := r.Match(&req), naive(rs, &req); got != want {
			t.Fatalf("%s %s in %q: got %d, want %d", method, req.Path, lines, got, want)
		}
	})
}

func BenchmarkResolveAndMatch(b *testing.B) {
	h := NewHosts[Router]()
	r, _ := Compile(routes("/public/", "/api/ GET POST", "/api/tracks/{id} GET", "/api/{kind}/", "/"))
	set := map[string]*Router{}
	hosts := make([][]byte, 100_000)
	for i := range hosts {
		hosts[i] = fmt.Appendf(nil, "tenant-%d.example.com", i)
		set[string(hosts[i])] = r
	}
	h.Change(set, nil)
	req := request(b, "GET", "/api/tracks/42")
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i = (i + 7919) % len(hosts)
		if h.Find(hosts[i]).Match(req) != 2 {
			b.Fatal("no match")
		}
	}
}
