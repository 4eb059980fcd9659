package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/gatehouse-gateway/gatehouse"
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
	// The body is there; its deadline would end the context of a long change.
	_, w := humago.Unwrap(ctx)
	controller := http.NewResponseController(w)
	_ = controller.SetReadDeadline(time.Time{}) // a recorder of answers has none
	if ctx.Operation().MaxBodyBytes > ordinary {
		_ = controller.SetWriteDeadline(time.Now().Add(longest))
	}
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

// add registers an operation whose errors are problems.
func add[I, O any](s *rest, id, method, path, summary string, handler func(context.Context, *I) (*O, error), change ...func(*rest, *huma.Operation)) {
	op := huma.Operation{
		OperationID: id, Method: method, Path: path, Summary: summary, Tags: []string{tag(path)}, MaxBodyBytes: ordinary, BodyReadTimeout: 30 * time.Second,
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
