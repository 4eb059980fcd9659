package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/configs"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/metering"
)

// REST are the parts of the API over a stored control plane.
type REST struct {
	Plane     *control.Plane
	Operators *control.Operators
	Gateways  *control.Gateways
	Meter     *metering.Meter
	// Checks, Metrics and Log are as in Parts.
	Checks  []Check
	Metrics []func(io.Writer)
	Log     *slog.Logger
	// Loopback is as in Parts.
	Loopback bool
	// Heartbeat is the time between two signs of life on a stream of updates.
	// Default 5s.
	Heartbeat time.Duration
}

// rest serves REST.
type rest struct {
	REST
	api huma.API
}

// Version is that of the API's document.
const Version = "1.0.0"

var overrideOnce sync.Once

// NewHandler returns the API over a stored control plane.
func NewHandler(parts REST) http.Handler {
	s := &rest{REST: parts}
	mux := http.NewServeMux()
	s.api = humago.New(mux, document())
	s.api.UseMiddleware(s.authenticate)
	s.tenants()
	s.keys()
	s.plans()
	s.tokens()
	s.history()
	s.apply()
	s.gateways()
	s.insight()
	s.operations(mux)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, problemOf(&gatehouse.Error{Code: gatehouse.CodeNotFound, Message: "there is nothing at this path, or not by this method"}))
	})
	return s.frame(mux)
}

// frame takes paths with and without a trailing slash, and guards a loopback
// listener against pages whose own name resolves to it.
func (s *rest) frame(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.Loopback && !local(r.Host) {
			writeProblem(w, problemOf(&gatehouse.Error{Code: gatehouse.CodeMisdirected, Message: "this listener answers to localhost and addresses only"}))
			return
		}
		if p := r.URL.Path; len(p) > 1 && p[len(p)-1] == '/' {
			r.URL.Path = strings.TrimRight(p, "/")
			r.URL.RawPath = strings.TrimRight(r.URL.RawPath, "/")
		}
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	})
}

// document is the head of the OpenAPI document, with our problems in place of
// huma's errors and without its pages.
func document() huma.Config {
	overrideOnce.Do(func() {
		huma.NewError = func(status int, message string, errs ...error) huma.StatusError { return requestProblem(status, message, errs) }
		huma.NewErrorWithContext = func(_ huma.Context, status int, message string, errs ...error) huma.StatusError {
			return requestProblem(status, message, errs)
		}
	})
	c := huma.DefaultConfig("Gatehouse control API", Version)
	c.OpenAPIPath, c.DocsPath, c.SchemasPath = "/openapi", "", ""
	c.CreateHooks, c.Transformers = nil, nil
	c.RejectUnknownQueryParameters = true
	c.Components = &huma.Components{
		Schemas:         huma.NewMapRegistry("#/components/schemas/", schemaName),
		SecuritySchemes: map[string]*huma.SecurityScheme{"operator": {Type: "http", Scheme: "bearer", Description: "An operator token."}},
	}
	c.Security = []map[string][]string{{"operator": {}}}
	return c
}

// schemaName tells stored things from the documents in them.
func schemaName(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	if strings.HasSuffix(t.PkgPath(), "/control") && !strings.Contains(name, "Page") {
		return "Stored" + name
	}
	return name
}

type callerKey struct{}

// caller returns who asks.
func caller(ctx context.Context) control.Caller {
	c, _ := ctx.Value(callerKey{}).(control.Caller)
	return c
}

// authenticate lets only those operations through that the caller's token may
// do.
func (s *rest) authenticate(ctx huma.Context, next func(huma.Context)) {
	scheme, token, _ := strings.Cut(ctx.Header("Authorization"), " ")
	if !strings.EqualFold(scheme, "bearer") {
		token = ""
	}
	c, err := s.admit(ctx.Context(), strings.TrimSpace(token), ctx.RemoteAddr(), ctx.Operation().OperationID, gatehouse.TenantID(ctx.Param("tenant")))
	if err != nil {
		s.refuse(ctx, err)
		return
	}
	next(huma.WithValue(ctx, callerKey{}, c))
}

func (s *rest) admit(ctx context.Context, token, remote, operation string, tenant gatehouse.TenantID) (control.Caller, error) {
	address, _, err := net.SplitHostPort(remote)
	if err != nil {
		address = remote
	}
	c, err := s.Operators.Authenticate(token, address)
	if err != nil {
		return c, err
	}
	return c, s.Operators.Authorize(ctx, control.Access{Operation: operation, Tenant: tenant, Caller: c})
}

// refuse answers outside of a handler.
func (s *rest) refuse(ctx huma.Context, err error) {
	p := s.report(err)
	for name, value := range p.headers() {
		ctx.SetHeader(name, value)
	}
	ctx.SetHeader("Content-Type", "application/problem+json")
	ctx.SetStatus(p.Status)
	if _, err := ctx.BodyWriter().Write(p.encode()); err != nil {
		s.Log.Debug("write answer", "error", err)
	}
}

// report makes an error a problem, and logs what the operator of the control
// plane should see.
func (s *rest) report(err error) *problem {
	p := problemOf(err)
	if p.Status >= 500 {
		s.Log.Error("control API", "error", err)
	}
	return p
}

// change is what operations that change something take beside their body.
type change struct {
	IfMatch     string `header:"If-Match" doc:"The ETag that the change was made for, or *."`
	Idempotency string `header:"Idempotency-Key" maxLength:"255" doc:"Makes the change once however often it is asked for within 24 hours."`
	DryRun      bool   `query:"dry_run" doc:"Only say what would change."`
	Reason      string `query:"reason" maxLength:"1000" doc:"Why, for the audit trail."`

	request string // method and path, which the idempotency key stands for
}

// Resolve notes what was asked for.
func (c *change) Resolve(ctx huma.Context) []error {
	u := ctx.URL()
	c.request = ctx.Method() + " " + u.Path + "?" + u.RawQuery
	return nil
}

var _ huma.Resolver = (*change)(nil)

// mutation is what the control plane is told beside the body.
func (c *change) mutation(ctx context.Context, body []byte) (control.Mutation, error) {
	m := control.Mutation{Actor: caller(ctx).Actor(), Why: c.Reason, DryRun: c.DryRun}
	if c.Idempotency != "" {
		sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%s", c.request, c.IfMatch, body))
		m.Idempotency = journal.Idempotency{Key: c.Idempotency, Request: hex.EncodeToString(sum[:])}
	}
	if c.IfMatch == "" || c.IfMatch == "*" {
		return m, nil
	}
	text, ok := strings.CutPrefix(c.IfMatch, `"`)
	text, closed := strings.CutSuffix(text, `"`)
	revision, err := strconv.ParseUint(text, 10, 64)
	if !ok || !closed || err != nil {
		return m, &gatehouse.Error{Code: gatehouse.CodeStale, Message: "If-Match is no ETag of ours"}
	}
	m.Match = &revision
	return m, nil
}

// required refuses a replacement that does not say of what.
func (c *change) required() error {
	if c.IfMatch == "" {
		return &gatehouse.Error{Code: gatehouse.CodeNoPrecondition, Message: "send If-Match with the ETag that was read, or * to replace whatever there is"}
	}
	return nil
}

// decode reads a body strictly: unknown keys are faults.
func decode(body []byte, into any) error {
	if len(body) == 0 {
		return &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: "a JSON body is expected"}
	}
	if faults := configs.DecodeBody(body, into); len(faults.Errors()) > 0 {
		return &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: "the body has faults", Err: &control.Invalid{Faults: faults}}
	}
	return nil
}

// answer is a body with its ETag.
type answer[T any] struct {
	ETag string `header:"ETag"`
	Body T
}

func tagged[T any](v T, revision uint64) *answer[T] {
	a := &answer[T]{Body: v}
	if revision > 0 {
		a.ETag = `"` + strconv.FormatUint(revision, 10) + `"`
	}
	return a
}

// listing is a page with a link to the next.
type listing[T any] struct {
	Link string `header:"Link"`
	Body control.Page[T]
}

func linked[T any](path string, p control.Page[T]) *listing[T] {
	l := &listing[T]{Body: p}
	if p.Next != "" {
		l.Link = "<" + path + "?cursor=" + p.Next + `>; rel="next"`
	}
	return l
}

// paging is what lists take.
type paging struct {
	Cursor string `query:"cursor" doc:"The next of the page before."`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

// add registers an operation whose errors are problems. body is a value of the
// type that the request's body has, nil for none.
func add[I, O any](s *rest, id, method, path, summary string, body any, handler func(context.Context, *I) (*O, error), change ...func(*huma.Operation)) {
	op := huma.Operation{
		OperationID: id, Method: method, Path: path, Summary: summary, Tags: []string{tag(path)}, MaxBodyBytes: 4 << 20, BodyReadTimeout: 30 * time.Second,
		Errors: []int{400, 401, 403, 404, 409, 412, 422, 429, 500, 503}, SkipValidateBody: true,
	}
	if body != nil {
		op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
			"application/json": {Schema: s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeOf(body), true, "")},
		}}
	}
	for _, f := range change {
		f(&op)
	}
	huma.Register(s.api, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := handler(ctx, in)
		if err != nil {
			return nil, s.report(err)
		}
		return out, nil
	})
}

func tag(path string) string {
	parts := strings.Split(strings.TrimPrefix(path, "/api/v1/"), "/")
	if len(parts) > 2 && parts[0] == "tenants" {
		return parts[2]
	}
	return parts[0]
}

func created(op *huma.Operation) { op.DefaultStatus = http.StatusCreated }

func noContent(op *huma.Operation) { op.DefaultStatus = http.StatusNoContent }

func large(op *huma.Operation) {
	op.MaxBodyBytes, op.BodyReadTimeout = 64<<20, 2*time.Minute
}

// isInvalid returns the faults of an error.
func isInvalid(err error) gatehouse.Faults {
	if bad, ok := errors.AsType[*control.Invalid](err); ok {
		return bad.Faults
	}
	return nil
}
