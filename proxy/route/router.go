package route

import (
	"bytes"
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/proxy/ingress"
)

// Router is one tenant's routes as a tree of path segments. It is immutable.
//
// Of the routes that match a request in path, method and headers the most
// specific wins: paths are compared segment by segment from the left, a
// literal before a parameter before the end of a prefix, and an exact path
// before a prefix; then a route that lists methods before one that does not;
// then the one with more header conditions; then the earlier in the document.
type Router struct {
	root node
}

type node struct {
	literal map[string]*node
	param   *node
	exact   []*rule // the path ends here
	dir     []*rule // the path is exactly this and "/": only "/{$}" at the root
	prefix  []*rule // the path goes on below here
}

// rule is one route's conditions beside its path.
type rule struct {
	index   int
	methods []string
	headers []header
}

type header struct {
	name  string
	value string
	regex *regexp.Regexp
}

// Compile builds a router. Faults have pointers relative to the list.
func Compile(routes []gatehouse.Route) (*Router, gatehouse.Faults) {
	r := &Router{}
	var faults gatehouse.Faults
	for i := range routes {
		m := &routes[i].Match
		ru := &rule{index: i, methods: m.Methods}
		for j, h := range m.Headers {
			re, err := compileRegex(h.Regex)
			if err != nil {
				faults = append(faults, gatehouse.Fault{Pointer: gatehouse.Pointer(i, "match", "headers", j, "regex"), Reason: err.Error()})
			}
			ru.headers = append(ru.headers, header{h.Name, h.Value, re})
		}
		if reason := gatehouse.PathFault(m.Path); reason != "" {
			faults = append(faults, gatehouse.Fault{Pointer: gatehouse.Pointer(i, "match", "path"), Reason: fmt.Sprintf("path %q %s", m.Path, reason)})
			continue
		}
		r.add(m.Path, ru)
	}
	if len(faults) > 0 {
		return nil, faults
	}
	r.root.sort()
	return r, nil
}

func compileRegex(expr string) (*regexp.Regexp, error) {
	if expr == "" {
		return nil, nil
	}
	return regexp.Compile(expr)
}

func (r *Router) add(path string, ru *rule) {
	if path == "/{$}" {
		r.root.dir = append(r.root.dir, ru)
		return
	}
	n := &r.root
	rest, isPrefix := strings.CutSuffix(path, "/")
	for s := range strings.SplitSeq(strings.TrimPrefix(rest, "/"), "/") {
		switch {
		case s == "":
		case s[0] == '{':
			if n.param == nil {
				n.param = &node{}
			}
			n = n.param
		default:
			if n.literal == nil {
				n.literal = map[string]*node{}
			}
			if n.literal[s] == nil {
				n.literal[s] = &node{}
			}
			n = n.literal[s]
		}
	}
	if isPrefix {
		n.prefix = append(n.prefix, ru)
	} else {
		n.exact = append(n.exact, ru)
	}
}

func (n *node) sort() {
	for _, rules := range [][]*rule{n.exact, n.dir, n.prefix} {
		slices.SortStableFunc(rules, func(a, b *rule) int {
			return cmp.Or(compareBool(len(a.methods) > 0, len(b.methods) > 0), cmp.Compare(len(b.headers), len(a.headers)))
		})
	}
	for _, child := range n.literal {
		child.sort()
	}
	if n.param != nil {
		n.param.sort()
	}
}

// compareBool puts true first.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// Match returns the index of the winning route, or -1. It allocates nothing.
func (r *Router) Match(req *ingress.Request) int {
	if ru := r.root.match(req, req.Path); ru != nil {
		return ru.index
	}
	return -1
}

// match goes down the tree; rest is the path below n, empty or from a "/".
// Every node is visited at most once, so the work is bounded by the tree.
func (n *node) match(req *ingress.Request, rest []byte) *rule {
	if len(rest) == 0 {
		return first(n.exact, req)
	}
	if rest[0] != '/' {
		return nil
	}
	segment, below := rest[1:], []byte(nil)
	if slash := bytes.IndexByte(segment, '/'); slash >= 0 {
		segment, below = segment[:slash], segment[slash:]
	}
	if len(segment) > 0 {
		if child := n.literal[string(segment)]; child != nil {
			if ru := child.match(req, below); ru != nil {
				return ru
			}
		}
		if n.param != nil {
			if ru := n.param.match(req, below); ru != nil {
				return ru
			}
		}
	} else if ru := first(n.dir, req); ru != nil {
		return ru
	}
	return first(n.prefix, req)
}

func first(rules []*rule, req *ingress.Request) *rule {
	for _, ru := range rules {
		if ru.allows(req.Method) && ru.headersMatch(req) {
			return ru
		}
	}
	return nil
}

// allows: a route for GET also takes HEAD.
func (ru *rule) allows(method []byte) bool {
	if len(ru.methods) == 0 {
		return true
	}
	for _, m := range ru.methods {
		if string(method) == m || m == "GET" && string(method) == "HEAD" {
			return true
		}
	}
	return false
}

func (ru *rule) headersMatch(req *ingress.Request) bool {
	for i := range ru.headers {
		if !ru.headers[i].matches(req) {
			return false
		}
	}
	return true
}

func (h *header) matches(req *ingress.Request) bool {
	for i := range req.Len() {
		f := &req.Fields[i]
		if !ingress.EqualFold(f.Name, h.name) {
			continue
		}
		switch {
		case h.regex != nil:
			if h.regex.Match(f.Value) {
				return true
			}
		case h.value == "" || string(f.Value) == h.value:
			return true
		}
	}
	return false
}

// Allow returns the methods that some route would take for this path and
// these headers, sorted; none when no route has the path.
func (r *Router) Allow(req *ingress.Request) []string {
	methods := map[string]bool{}
	r.root.allow(req, req.Path, methods)
	out := []string{}
	for m := range methods {
		out = append(out, m)
	}
	slices.Sort(out)
	return out
}

func (n *node) allow(req *ingress.Request, rest []byte, methods map[string]bool) {
	note := func(rules []*rule) {
		for _, ru := range rules {
			if !ru.headersMatch(req) {
				continue
			}
			for _, m := range ru.methods {
				methods[m] = true
				if m == "GET" {
					methods["HEAD"] = true
				}
			}
		}
	}
	if len(rest) == 0 {
		note(n.exact)
		return
	}
	if rest[0] != '/' {
		return
	}
	segment, below := rest[1:], []byte(nil)
	if slash := bytes.IndexByte(segment, '/'); slash >= 0 {
		segment, below = segment[:slash], segment[slash:]
	}
	if len(segment) == 0 {
		note(n.dir)
	} else {
		if child := n.literal[string(segment)]; child != nil {
			child.allow(req, below, methods)
		}
		if n.param != nil {
			n.param.allow(req, below, methods)
		}
	}
	note(n.prefix)
}

// Prefetch reads what Match will read first; see proxy.
func (r *Router) Prefetch() uint64 {
	sum := uint64(len(r.root.literal))
	if rules := r.root.prefix; len(rules) > 0 {
		sum += uint64(rules[0].index)
	}
	return sum
}
