package policy

import (
	"bytes"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// fields is a set of parts of the input document.
type fields uint32

const (
	fieldTenant fields = 1 << iota
	fieldPlan
	fieldFeatures
	fieldRoute
	fieldAuth
	fieldMethod
	fieldHost
	fieldPath
	fieldSegments
	fieldQuery
	fieldHeaders
	fieldBodySize
	fieldProtocol
	fieldPrincipal
	fieldIP
	fieldTLS
	fieldTime

	fieldsRequest = fieldMethod | fieldHost | fieldPath | fieldSegments | fieldQuery | fieldHeaders | fieldBodySize | fieldProtocol
	fieldsClient  = fieldIP | fieldTLS
	fieldsAll     = fieldTime<<1 - 1
)

// names are the keys of the document's objects, made once; never changed.
var names = func() map[string]*ast.Term {
	m := map[string]*ast.Term{}
	for _, n := range []string{
		"tenant", "plan", "features", "route", "auth", "request", "principal", "client", "time",
		"method", "host", "path", "segments", "query", "headers", "body_size", "protocol", "ip", "tls",
	} {
		m[n] = ast.StringTerm(n)
	}
	return m
}()

// document builds those parts of input that r reads.
func document(in *Input, r *readSet) *ast.Term {
	fs := r.fields
	top := make([][2]*ast.Term, 0, 9)
	add := func(f fields, name string, value func() *ast.Term) {
		if fs&f != 0 {
			top = append(top, [2]*ast.Term{names[name], value()})
		}
	}
	add(fieldTenant, "tenant", func() *ast.Term { return ast.StringTerm(in.Tenant) })
	add(fieldPlan, "plan", func() *ast.Term { return ast.StringTerm(in.Plan) })
	add(fieldRoute, "route", func() *ast.Term { return ast.StringTerm(in.Route) })
	add(fieldAuth, "auth", func() *ast.Term { return ast.StringTerm(in.Auth) })
	add(fieldFeatures, "features", in.features)
	add(fieldsRequest, "request", func() *ast.Term { return in.request(r) })
	add(fieldPrincipal, "principal", func() *ast.Term { return in.principal().term })
	add(fieldsClient, "client", func() *ast.Term { return in.client(fs) })
	add(fieldTime, "time", func() *ast.Term { return intTerm(in.Time.UnixNano()) })
	return ast.ObjectTerm(top...)
}

func intTerm(n int64) *ast.Term {
	return ast.NumberTerm(json.Number(strconv.FormatInt(n, 10)))
}

func bytesTerm(b []byte) *ast.Term { return ast.StringTerm(string(b)) }

func (in *Input) principal() *Principal {
	if in.Principal == nil {
		return anonymous
	}
	return in.Principal
}

func (in *Input) features() *ast.Term {
	pairs := make([][2]*ast.Term, len(in.Features))
	for i, f := range in.Features {
		pairs[i] = [2]*ast.Term{ast.StringTerm(f), ast.InternedTerm(true)}
	}
	return ast.ObjectTerm(pairs...)
}

func (in *Input) request(r *readSet) *ast.Term {
	fs := r.fields
	pairs := make([][2]*ast.Term, 0, 8)
	add := func(f fields, name string, value func() *ast.Term) {
		if fs&f != 0 {
			pairs = append(pairs, [2]*ast.Term{names[name], value()})
		}
	}
	add(fieldMethod, "method", func() *ast.Term { return bytesTerm(in.Method) })
	add(fieldHost, "host", func() *ast.Term { return bytesTerm(in.Host) })
	add(fieldPath, "path", func() *ast.Term { return bytesTerm(in.Path) })
	add(fieldSegments, "segments", in.segments)
	add(fieldQuery, "query", in.query)
	add(fieldHeaders, "headers", func() *ast.Term { return in.headers(r.headers) })
	add(fieldBodySize, "body_size", func() *ast.Term { return intTerm(in.BodySize) })
	add(fieldProtocol, "protocol", func() *ast.Term { return bytesTerm(in.Protocol) })
	return ast.ObjectTerm(pairs...)
}

func (in *Input) client(fs fields) *ast.Term {
	pairs := make([][2]*ast.Term, 0, 2)
	if fs&fieldIP != 0 {
		ip := ""
		if in.Client.IsValid() {
			ip = in.Client.String()
		}
		pairs = append(pairs, [2]*ast.Term{names["ip"], ast.StringTerm(ip)})
	}
	if fs&fieldTLS != 0 {
		pairs = append(pairs, [2]*ast.Term{names["tls"], ast.InternedTerm(in.TLS)})
	}
	return ast.ObjectTerm(pairs...)
}

func (in *Input) segments() *ast.Term {
	rest := bytes.TrimPrefix(in.Path, []byte("/"))
	if len(rest) == 0 {
		return ast.ArrayTerm()
	}
	terms := make([]*ast.Term, 0, 1+bytes.Count(rest, []byte("/")))
	for segment := range bytes.SplitSeq(rest, []byte("/")) {
		s := string(segment)
		if plain, err := url.PathUnescape(s); err == nil {
			s = plain
		}
		terms = append(terms, ast.StringTerm(s))
	}
	return ast.ArrayTerm(terms...)
}

// query decodes pairs as forms are: "+" is a space. What cannot be decoded
// stays as sent, so that a policy sees it.
func (in *Input) query() *ast.Term {
	var order []string
	values := map[string][]*ast.Term{}
	for pair := range bytes.SplitSeq(in.Query, []byte("&")) {
		if len(pair) == 0 {
			continue
		}
		rawName, rawValue, _ := bytes.Cut(pair, []byte("="))
		name := unescape(rawName)
		if values[name] == nil {
			order = append(order, name)
		}
		values[name] = append(values[name], ast.StringTerm(unescape(rawValue)))
	}
	pairs := make([][2]*ast.Term, len(order))
	for i, name := range order {
		pairs[i] = [2]*ast.Term{ast.StringTerm(name), ast.ArrayTerm(values[name]...)}
	}
	return ast.ObjectTerm(pairs...)
}

func unescape(raw []byte) string {
	s := string(raw)
	if plain, err := url.QueryUnescape(s); err == nil {
		return plain
	}
	return s
}

// headers builds the fields in only, or all where it is nil.
func (in *Input) headers(only []string) *ast.Term {
	if in.Headers == nil {
		return ast.ObjectTerm()
	}
	type field struct {
		name  string
		value strings.Builder
	}
	list := make([]*field, 0, min(in.Headers.Len(), 16))
	for i := range in.Headers.Len() {
		rawName, value := in.Headers.At(i)
		if only != nil && !slices.ContainsFunc(only, func(n string) bool { return isLowered(rawName, n) }) {
			continue
		}
		name := lower(rawName)
		at := slices.IndexFunc(list, func(f *field) bool { return f.name == name })
		if at < 0 {
			at = len(list)
			list = append(list, &field{name: name})
		} else if name == "cookie" {
			list[at].value.WriteString("; ")
		} else {
			list[at].value.WriteString(", ")
		}
		list[at].value.Write(value)
	}
	pairs := make([][2]*ast.Term, len(list))
	for i, f := range list {
		pairs[i] = [2]*ast.Term{ast.StringTerm(f.name), ast.StringTerm(f.value.String())}
	}
	return ast.ObjectTerm(pairs...)
}

// lower is b in ASCII lower case: field names are tokens (RFC 9110).
func lower(b []byte) string {
	out := []byte(string(b))
	for i, c := range out {
		if 'A' <= c && c <= 'Z' {
			out[i] = c + 'a' - 'A'
		}
	}
	return string(out)
}
