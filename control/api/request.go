package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/configs"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
)

// Change is what operations that change something take beside their body. It
// is exported, as other parts of inputs are, for huma to look into.
type Change struct {
	IfMatch     string `header:"If-Match" maxLength:"100" doc:"The ETag that the change was made for, or *."`
	Idempotency string `header:"Idempotency-Key" maxLength:"255" doc:"Makes the change once however often it is asked for within 24 hours."`
	DryRun      bool   `query:"dry_run" doc:"Only say what would change, as preview in the answer."`
	Reason      string `query:"reason" maxLength:"1000" doc:"Why, for the audit trail."`

	request string // method and path, which the idempotency key stands for
	media   string // the body's media type
}

// Resolve notes what was asked for.
func (c *Change) Resolve(ctx huma.Context) []error {
	u := ctx.URL()
	c.request = ctx.Method() + " " + u.Path + "?" + u.RawQuery
	c.media = mediaType(ctx.Header("Content-Type"))
	return nil
}

var _ huma.Resolver = (*Change)(nil)

// mutation is what the control plane is told beside the body.
func (c *Change) mutation(ctx context.Context, body []byte) (control.Mutation, error) {
	m := control.Mutation{Actor: caller(ctx).Actor(), Why: c.Reason, DryRun: c.DryRun}
	if c.Idempotency != "" {
		sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%s\n%s", c.request, c.IfMatch, c.media, body))
		m.Idempotency = journal.Idempotency{Key: c.Idempotency, Request: hex.EncodeToString(sum[:])}
	}
	if c.IfMatch == "" || c.IfMatch == "*" {
		return m, nil
	}
	text, ok := strings.CutPrefix(c.IfMatch, `"`)
	text, closed := strings.CutSuffix(text, `"`)
	revision, err := strconv.ParseUint(text, 10, 63)
	if !ok || !closed || err != nil {
		return m, &gatehouse.Error{Code: gatehouse.CodeStale, Message: "If-Match is no ETag of ours"}
	}
	m.Match = &revision
	return m, nil
}

// required refuses a replacement that does not say of what.
func (c *Change) required() error {
	if c.IfMatch == "" {
		return &gatehouse.Error{Code: gatehouse.CodeNoPrecondition, Message: "send If-Match with the ETag that was read, or * to replace whatever there is"}
	}
	return nil
}

// read makes a mutation and decodes the body strictly: unknown keys are faults.
func (c *Change) read(ctx context.Context, body []byte, into any) (control.Mutation, error) {
	m, err := c.mutation(ctx, body)
	if err != nil {
		return m, err
	}
	return m, decode(c.media, body, into)
}

// decode reads a body strictly.
func decode(media string, body []byte, into any) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: "a body is expected"}
	}
	var faults gatehouse.Faults
	if media == yamlType {
		faults = configs.DecodeBody(body, into)
	} else {
		faults = control.Decode(body, into)
	}
	if len(faults.Errors()) > 0 {
		return &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: "the body has faults", Err: &control.Invalid{Faults: faults}}
	}
	return nil
}

// Media types of bodies.
const (
	jsonType  = "application/json"
	mergeType = "application/merge-patch+json"
	yamlType  = "application/yaml"
	gzipType  = "application/gzip"
	textType  = "text/plain"
)

// mediaType is that of a Content-Type; absent is JSON, malformed is itself.
func mediaType(header string) string {
	if header == "" {
		return jsonType
	}
	media, _, err := mime.ParseMediaType(header)
	if err != nil {
		return header
	}
	if media == "application/x-yaml" || media == "text/yaml" {
		return yamlType
	}
	return media
}

// mediaTypes refuses bodies in a form that the operation does not take.
func mediaTypes(ctx huma.Context, next func(huma.Context)) {
	if body := ctx.Operation().RequestBody; body != nil {
		if _, ok := body.Content[mediaType(ctx.Header("Content-Type"))]; !ok {
			p := problemOf(&gatehouse.Error{Code: gatehouse.CodeBadRequest, Message: "this operation does not take a body of that Content-Type"})
			p.Status = http.StatusUnsupportedMediaType
			answer(ctx, p)
			return
		}
	}
	next(ctx)
}

// answer writes a problem outside of a handler.
func answer(ctx huma.Context, p *problem) {
	for name, values := range p.GetHeaders() {
		ctx.SetHeader(name, values[0])
	}
	ctx.SetHeader("Content-Type", problemType)
	ctx.SetStatus(p.Status)
	_, _ = ctx.BodyWriter().Write(p.encode()) // a client that is gone needs no answer
}

// report makes an error a problem, and logs what the operator of the control
// plane should see.
func (s *rest) report(err error) *problem {
	p := problemOf(err)
	if p.Status >= http.StatusInternalServerError && p.Status != http.StatusNotImplemented {
		s.Log.Error("control API", "error", err)
	}
	return p
}

// one is a body with its ETag.
type one[T any] struct {
	ETag string `header:"ETag" doc:"For If-Match."`
	Body T
}

func tagged[T any](v T, revision uint64, err error) (*one[T], error) {
	if err != nil {
		return nil, err
	}
	a := &one[T]{Body: v}
	if revision > 0 {
		a.ETag = `"` + strconv.FormatUint(revision, 10) + `"`
	}
	return a, nil
}

// made is one whose status depends on whether it was made.
type made[T any] struct {
	Status int
	ETag   string `header:"ETag" doc:"For If-Match."`
	Body   T
}

// madeOf answers 201, or 200 to a dry run.
func madeOf[T any](v T, meta *control.Meta, err error) (*made[T], error) {
	if err != nil {
		return nil, err
	}
	a := &made[T]{Status: http.StatusCreated, Body: v}
	if meta.Preview != nil {
		a.Status = http.StatusOK
		return a, nil
	}
	a.ETag = `"` + strconv.FormatUint(meta.Revision, 10) + `"`
	return a, nil
}

// gone answers a removal: 204, or 200 and what it would do.
type gone struct {
	Status int
	Body   *control.Preview
}

func goneOf(preview *control.Preview, err error) (*gone, error) {
	if err != nil {
		return nil, err
	}
	if preview == nil {
		return &gone{Status: http.StatusNoContent}, nil
	}
	return &gone{Status: http.StatusOK, Body: preview}, nil
}

// Paging is what lists take.
type Paging struct {
	Cursor string `query:"cursor" maxLength:"2000" doc:"The next of the page before."`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`

	Origin
}

// Origin is the URL of a list.
type Origin struct{ url url.URL }

// Resolve notes it.
func (l *Origin) Resolve(ctx huma.Context) []error {
	l.url = ctx.URL()
	return nil
}

var _ huma.Resolver = (*Origin)(nil)

// listing is a page with a link to the next.
type listing[T any] struct {
	Link string `header:"Link" doc:"The next page (RFC 8288)."`
	Body control.Page[T]
}

// page answers a page whose next is asked for by a parameter.
func (l *Origin) page(parameter, next string) string {
	if next == "" {
		return ""
	}
	u := l.url
	q := u.Query()
	q.Set(parameter, next)
	return "<" + u.Path + "?" + q.Encode() + `>; rel="next"`
}

func paged[T any](in *Paging, p control.Page[T], err error) (*listing[T], error) {
	if err != nil {
		return nil, err
	}
	return &listing[T]{Link: in.page("cursor", p.Next), Body: p}, nil
}

// add registers an operation whose errors are problems.
func add[I, O any](s *rest, id, method, path, summary string, handler func(context.Context, *I) (*O, error), change ...func(*rest, *huma.Operation)) {
	op := huma.Operation{
		OperationID: id, Method: method, Path: path, Summary: summary, Tags: []string{tag(path)}, MaxBodyBytes: 4 << 20, BodyReadTimeout: 30 * time.Second,
		SkipValidateBody: true,
	}
	for _, f := range change {
		f(s, &op)
	}
	huma.Register(s.api, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := handler(ctx, in)
		if err != nil {
			p := s.report(err)
			if raw := reflect.ValueOf(in).Elem().FieldByName("RawBody"); raw.IsValid() {
				redact(p.Faults, json.RawMessage(raw.Bytes()))
			}
			return nil, p
		}
		return out, nil
	})
}

func tag(path string) string {
	parts := strings.Split(strings.TrimPrefix(path, "/api/v1/"), "/")
	if len(parts) > 2 && parts[0] == "tenants" && !slices.Contains([]string{"restore", "purge", "rollback"}, parts[2]) {
		return parts[2]
	}
	return parts[0]
}

// body says what an operation takes, and in which media types beside JSON.
func body[T any](also ...string) func(*rest, *huma.Operation) {
	return func(s *rest, op *huma.Operation) {
		schema := s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[T](), true, "")
		op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{jsonType: {Schema: schema}}}
		for _, media := range also {
			op.RequestBody.Content[media] = &huma.MediaType{Schema: schema}
			if media == gzipType || media == textType {
				op.RequestBody.Content[media] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString}}
			}
		}
	}
}

// optional is for a body that may be left out.
func optional(_ *rest, op *huma.Operation) { op.Metadata = map[string]any{"optional": true} }

func created(_ *rest, op *huma.Operation) { op.DefaultStatus = http.StatusCreated }

func noContent(_ *rest, op *huma.Operation) { op.DefaultStatus = http.StatusNoContent }

// large takes bodies of up to 64 MiB.
func large(_ *rest, op *huma.Operation) { op.MaxBodyBytes, op.BodyReadTimeout = 64<<20, 2*time.Minute }

// lines says that the answer is NDJSON.
func lines[T any](s *rest, op *huma.Operation) {
	schema := s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[T](), true, "")
	op.Responses = map[string]*huma.Response{"200": {Description: "A JSON value a line.", Content: map[string]*huma.MediaType{ndjsonType: {Schema: schema}}}}
}

const ndjsonType = "application/x-ndjson"

// mayBeAbsent says that the operation may answer 501.
func mayBeAbsent(_ *rest, op *huma.Operation) {
	op.Errors = append(op.Errors, http.StatusNotImplemented)
}

func notBuilt(what string) error {
	return &gatehouse.Error{Code: gatehouse.CodeNotBuilt, Message: what + " not available on this control plane yet"}
}
