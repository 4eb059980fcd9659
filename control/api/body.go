package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/configs"
	"github.com/gatehouse-gateway/gatehouse/control"
)

// ordinary bounds the bodies of most operations, longest the time that one
// takes whose body is larger.
const (
	ordinary = 4 << 20
	longest  = 10 * time.Minute
)

// sound answers 400 where the body breaks off: huma takes that for a failure of
// ours.
func sound(ctx huma.Context, next func(huma.Context)) {
	if ctx.Operation().RequestBody != nil {
		ctx = &soundContext{within: ctx, body: &soundBody{from: ctx.BodyReader()}}
	}
	next(ctx)
}

// within is huma.Context by a name that is not its method's.
type within = huma.Context

type soundContext struct {
	within
	body *soundBody
}

// BodyReader is the body, which is looked at.
func (c *soundContext) BodyReader() io.Reader { return c.body }

// Unwrap is for humago.Unwrap.
func (c *soundContext) Unwrap() huma.Context { return c.within }

// SetStatus sets the status of the answer.
func (c *soundContext) SetStatus(status int) {
	if status == http.StatusInternalServerError && c.body.broken {
		status = http.StatusBadRequest
	}
	c.within.SetStatus(status)
}

type soundBody struct {
	from   io.Reader
	broken bool
}

// Read reads on.
func (b *soundBody) Read(p []byte) (int, error) {
	n, err := b.from.Read(p)
	b.broken = b.broken || err != nil && !errors.Is(err, io.EOF)
	return n, err
}

// heavy is how many requests with large bodies are worked on at once.
const heavy = 4

// weigh lets few requests with large bodies in at a time: each takes several
// times its size in memory.
func (s *rest) weigh(ctx huma.Context, next func(huma.Context)) {
	r, _ := humago.Unwrap(ctx)
	const light = 1 << 20
	if ctx.Operation().MaxBodyBytes <= ordinary || r.ContentLength >= 0 && r.ContentLength <= light {
		next(ctx)
		return
	}
	select {
	case s.heavy <- struct{}{}:
		defer func() { <-s.heavy }()
		next(ctx)
	case <-ctx.Context().Done():
		answer(ctx, problemOf(&gatehouse.Error{Code: gatehouse.CodeUnavailable, Message: "too many large requests at once"}))
	}
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
	return refusedBody(faults)
}

// object reads the members of a body that is a JSON object of no form of its
// own, as a merge patch is.
func object(body []byte, expected string) (map[string]json.RawMessage, error) {
	members, faults := control.Object(body, expected)
	return members, refusedBody(faults)
}

// refusedBody is the error of a body with faults, nil without.
func refusedBody(faults gatehouse.Faults) error {
	if len(faults.Errors()) == 0 {
		return nil
	}
	return &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: "the body has faults", Err: &control.Invalid{Faults: faults}}
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

// mediaTypes refuses bodies in a form that the operation does not take, and
// says which it takes (RFC 9110, 15.5.16; RFC 5789, 2.2).
func mediaTypes(ctx huma.Context, next func(huma.Context)) {
	body := ctx.Operation().RequestBody
	if body == nil {
		next(ctx)
		return
	}
	refuse := func(what string) {
		answer(ctx, problemOf(&gatehouse.Error{Code: gatehouse.CodeMediaType, Message: "this operation does not take " + what}))
	}
	media := mediaType(ctx.Header("Content-Type"))
	if _, ok := body.Content[media]; !ok {
		taken := strings.Join(slices.Sorted(maps.Keys(body.Content)), ", ")
		ctx.SetHeader("Accept", taken)
		switch ctx.Method() {
		case http.MethodPatch:
			ctx.SetHeader("Accept-Patch", taken)
		case http.MethodPost:
			ctx.SetHeader("Accept-Post", taken)
		}
		what := "a body of that Content-Type"
		if media == "application/x-www-form-urlencoded" {
			what = "a form, which curl says it sends unless told otherwise: --json"
		}
		refuse(what)
		return
	}
	if encoding := ctx.Header("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		ctx.SetHeader("Accept-Encoding", "identity")
		refuse("a body with that Content-Encoding")
		return
	}
	next(ctx)
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
