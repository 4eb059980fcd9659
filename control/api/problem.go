package api

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
)

// problem is an error answer (RFC 9457). Values of parameters that were
// rejected are not in it.
type problem struct {
	// Type is a URI that says what kind of problem it is, Title the same in words,
	// and Status the HTTP status.
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	// Detail is what happened this time.
	Detail string `json:"detail"`
	// Code is stable, for programs.
	Code gatehouse.Code `json:"code"`
	// Faults are everything that is wrong, each with its place.
	Faults gatehouse.Faults `json:"faults,omitempty"`
}

// Error makes it an error of huma.
func (p *problem) Error() string { return string(p.Code) + " " + p.Detail }

// GetStatus is the HTTP status.
func (p *problem) GetStatus() int { return p.Status }

// ContentType of problems.
func (p *problem) ContentType(string) string { return problemType }

// GetHeaders are those that the answer has beside.
func (p *problem) GetHeaders() http.Header {
	h := http.Header{}
	switch p.Status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Bearer realm="gatehouse"`)
	case http.StatusTooManyRequests:
		h.Set("Retry-After", "60")
	case http.StatusServiceUnavailable:
		h.Set("Retry-After", "1")
	}
	return h
}

const problemType = "application/problem+json"

var (
	_ huma.StatusError  = (*problem)(nil)
	_ huma.HeadersError = (*problem)(nil)
)

func (p *problem) encode() []byte {
	b, err := json.Marshal(p)
	if err != nil {
		panic(err) // strings and a number always encode
	}
	return append(b, '\n')
}

// problemOf is the answer to an error.
func problemOf(err error) *problem {
	code := gatehouse.CodeOf(err)
	row := gatehouse.Problems[code]
	p := &problem{Type: row.Type, Title: row.Title, Status: row.Status, Code: code, Detail: "the control plane failed"}
	if e, ok := errors.AsType[*gatehouse.Error](err); ok {
		p.Detail = e.Message
	}
	if bad, ok := errors.AsType[*control.Invalid](err); ok {
		p.Faults = bad.Faults
	}
	return p
}

// faulty is the error for one fault of a body or a parameter.
func faulty(pointer, reason string) error {
	return &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: "the request has faults", Err: &control.Invalid{Faults: gatehouse.Faults{{Pointer: pointer, Reason: reason}}}}
}

// refusedFaults is the error for faults of a request, nil without.
func refusedFaults(faults gatehouse.Faults) error {
	if len(faults.Errors()) == 0 {
		return nil
	}
	return &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: "the request has faults", Err: &control.Invalid{Faults: faults}}
}

// allFaults adds what is wrong with the meaning of a body to what is wrong with
// its form, so that both are told at once. meaning looks at what could be read;
// where form is of something else, or meaning is not about faults, it is form.
func allFaults(form error, meaning func() error) error {
	if form == nil {
		return meaning()
	}
	bad, ok := errors.AsType[*control.Invalid](form)
	if !ok {
		return form
	}
	more, ok := errors.AsType[*control.Invalid](meaning())
	if !ok {
		return form
	}
	faults := slices.Clone(bad.Faults)
	for _, f := range more.Faults {
		known := func(have gatehouse.Fault) bool {
			return have.Pointer == f.Pointer || strings.HasPrefix(f.Pointer, have.Pointer+"/")
		}
		if !slices.ContainsFunc(bad.Faults, known) {
			faults = append(faults, f)
		}
	}
	return refusedBody(faults)
}

// requestProblem is the answer to a request that did not reach its operation:
// huma's own error would repeat what was sent.
func requestProblem(e *huma.ErrorModel) *problem {
	code, message := gatehouse.CodeBadRequest, e.Detail
	switch {
	case e.Status == http.StatusRequestEntityTooLarge:
		code, message = gatehouse.CodeBodyTooLarge, "the body is larger than this operation takes"
	case e.Status == http.StatusRequestTimeout:
		code, message = gatehouse.CodeRequestTimeout, "the body did not come in time"
	case e.Status == http.StatusUnprocessableEntity:
		code, message = gatehouse.CodeInvalid, "the parameters have faults"
	case e.Detail == "cannot read request body": // it broke off, see sound
		return problemOf(&gatehouse.Error{Code: code, Message: "the body breaks off, or is not framed as HTTP says"})
	case e.Status >= http.StatusInternalServerError:
		return problemOf(e)
	}
	p := problemOf(&gatehouse.Error{Code: code, Message: message})
	for _, d := range e.Errors {
		p.Faults = append(p.Faults, parameterFault(d))
	}
	return p
}

// parameterFault tells of a parameter; its pointer is /query/limit.
func parameterFault(d *huma.ErrorDetail) gatehouse.Fault {
	const longest = 80 // the name of an unknown one is the caller's
	where, name, _ := strings.Cut(d.Location, ".")
	if len(name) > longest {
		name = "…"
	}
	reason := d.Message
	if strings.HasPrefix(reason, "invalid ") || strings.Contains(reason, "parse") { // of a time: with the value
		reason = "the value is not of the form that is expected"
	}
	return gatehouse.Fault{Pointer: gatehouse.Pointer(where, name), Reason: reason}
}

// redact takes the texts of sent that were rejected out of what is said of
// them. sent is encoded for that: it is asked for where there are faults only.
func redact(faults gatehouse.Faults, sent any) {
	if len(faults) == 0 {
		return
	}
	body, err := json.Marshal(sent)
	var tree any
	if err != nil || json.Unmarshal(body, &tree) != nil {
		return // it was not JSON
	}
	for i := range faults {
		f := &faults[i]
		if text, ok := at(tree, f.Pointer).(string); ok && text != "" {
			f.Reason, f.Hint = control.WithoutValue(f.Reason, text), control.WithoutValue(f.Hint, text)
		}
	}
}

// at is the value that a pointer names, nil for none.
func at(v any, pointer string) any {
	for token := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		token = strings.NewReplacer("~1", "/", "~0", "~").Replace(token)
		switch in := v.(type) {
		case map[string]any:
			v = in[token]
		case []any:
			i, err := strconv.Atoi(token)
			if err != nil || i < 0 || i >= len(in) {
				return nil
			}
			v = in[i]
		default:
			return nil
		}
	}
	return v
}

func writeProblem(w http.ResponseWriter, p *problem) {
	for name, values := range p.GetHeaders() {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Type", problemType)
	w.WriteHeader(p.Status)
	_, _ = w.Write(p.encode()) // a client that is gone needs no answer
}
