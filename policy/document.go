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
	fieldCert
	fieldTime

	fieldsRequest = fieldMethod | fieldHost | fieldPath | fieldSegments | fieldQuery | fieldHeaders | fieldBodySize | fieldProtocol
	fieldsClient  = fieldIP | fieldTLS | fieldCert
	fieldsAll     = fieldTime<<1 - 1
)

// Keys of the document's objects. Read-only.
var (
	nameTenant    = ast.StringTerm("tenant")
	namePlan      = ast.StringTerm("plan")
	nameFeatures  = ast.StringTerm("features")
	nameRoute     = ast.StringTerm("route")
	nameAuth      = ast.StringTerm("auth")
	nameRequest   = ast.StringTerm("request")
	namePrincipal = ast.StringTerm("principal")
	nameClient    = ast.StringTerm("client")
	nameTime      = ast.StringTerm("time")
	nameMethod    = ast.StringTerm("method")
	nameHost      = ast.StringTerm("host")
	namePath      = ast.StringTerm("path")
	nameSegments  = ast.StringTerm("segments")
	nameQuery     = ast.StringTerm("query")
	nameHeaders   = ast.StringTerm("headers")
	nameBodySize  = ast.StringTerm("body_size")
	nameProtocol  = ast.StringTerm("protocol")
	nameIP        = ast.StringTerm("ip")
	nameTLS       = ast.StringTerm("tls")
	nameCert      = ast.StringTerm("cert")
)

// object collects the members of an object on the stack.
type object struct {
	members [9][2]*ast.Term
	n       int
}

func (o *object) add(name, value *ast.Term) {
	o.members[o.n] = [2]*ast.Term{name, value}
	o.n++
}

func (o *object) term() *ast.Term { return ast.ObjectTerm(o.members[:o.n]...) }

// document builds those parts of input that r reads.
func (in *Input) document(r *readSet, ws *words) *ast.Term {
	fs := r.fields
	var top object
	if fs&fieldTenant != 0 {
		top.add(nameTenant, wordTerm(ws, in.Tenant))
	}
	if fs&fieldPlan != 0 {
		top.add(namePlan, wordTerm(ws, in.Plan))
	}
	if fs&fieldRoute != 0 {
		top.add(nameRoute, wordTerm(ws, in.Route))
	}
	if fs&fieldAuth != 0 {
		top.add(nameAuth, wordTerm(ws, in.Auth))
	}
	if fs&fieldFeatures != 0 {
		top.add(nameFeatures, in.features())
	}
	if fs&fieldsRequest != 0 {
		top.add(nameRequest, in.request(r, ws))
	}
	if fs&fieldPrincipal != 0 {
		top.add(namePrincipal, in.principal().term)
	}
	if fs&fieldsClient != 0 {
		top.add(nameClient, in.client(fs))
	}
	if fs&fieldTime != 0 {
		top.add(nameTime, intTerm(floor(in.Time, r.bucket)))
	}
	return top.term()
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

func (in *Input) request(r *readSet, ws *words) *ast.Term {
	fs := r.fields
	var request object
	if fs&fieldMethod != 0 {
		request.add(nameMethod, wordTerm(ws, in.Method))
	}
	if fs&fieldHost != 0 {
		request.add(nameHost, wordTerm(ws, in.Host))
	}
	if fs&fieldPath != 0 {
		request.add(namePath, bytesTerm(in.Path))
	}
	if fs&fieldSegments != 0 {
		request.add(nameSegments, in.segments())
	}
	if fs&fieldQuery != 0 {
		request.add(nameQuery, in.query())
	}
	if fs&fieldHeaders != 0 {
		request.add(nameHeaders, in.headers(r.headers))
	}
	if fs&fieldBodySize != 0 {
		request.add(nameBodySize, intTerm(in.BodySize))
	}
	if fs&fieldProtocol != 0 {
		request.add(nameProtocol, wordTerm(ws, in.Protocol))
	}
	return request.term()
}

func (in *Input) client(fs fields) *ast.Term {
	var client object
	if fs&fieldIP != 0 {
		ip := ""
		if in.Client.IsValid() {
			ip = in.Client.String()
		}
		client.add(nameIP, ast.StringTerm(ip))
	}
	if fs&fieldTLS != 0 {
		client.add(nameTLS, ast.InternedTerm(in.TLS))
	}
	if fs&fieldCert != 0 && in.Cert != nil {
		client.add(nameCert, in.Cert.term)
	}
	return client.term()
}

func (in *Input) segments() *ast.Term {
	rest := strings.TrimPrefix(string(in.Path), "/")
	if rest == "" {
		return ast.ArrayTerm()
	}
	n := 1 + strings.Count(rest, "/")
	values, terms := make([]ast.Term, n), make([]*ast.Term, n)
	for i := range terms {
		var segment string
		segment, rest, _ = strings.Cut(rest, "/")
		if strings.IndexByte(segment, '%') >= 0 {
			if plain, err := url.PathUnescape(segment); err == nil {
				segment = plain
			}
		}
		values[i].Value = ast.String(segment)
		terms[i] = &values[i]
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
