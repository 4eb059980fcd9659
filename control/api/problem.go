package api

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gatehouse-gateway/gatehouse"
)

// problem is an error answer (RFC 9457). Values that were rejected are not in
// it.
type problem struct {
	Type   string           `json:"type"`
	Title  string           `json:"title"`
	Status int              `json:"status"`
	Detail string           `json:"detail"`
	Code   gatehouse.Code   `json:"code"`
	Faults gatehouse.Faults `json:"faults,omitempty"`
}

// Error makes it an error of huma.
func (p *problem) Error() string { return string(p.Code) + " " + p.Detail }

// GetStatus is the HTTP status.
func (p *problem) GetStatus() int { return p.Status }

// ContentType of problems.
func (p *problem) ContentType(string) string { return "application/problem+json" }

var _ huma.StatusError = (*problem)(nil)

func (p *problem) headers() map[string]string {
	switch p.Status {
	case http.StatusUnauthorized:
		return map[string]string{"WWW-Authenticate": `Bearer realm="gatehouse"`}
	case http.StatusTooManyRequests:
		return map[string]string{"Retry-After": "60"}
	}
	return nil
}

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
	p := &problem{Type: row.Type, Title: row.Title, Status: row.Status, Code: code, Detail: "the control plane failed", Faults: isInvalid(err)}
	if e, ok := errors.AsType[*gatehouse.Error](err); ok {
		p.Detail = e.Message
	}
	return p
}

// requestProblem is the answer to a request that did not reach its operation.
// huma's own text would repeat what was sent.
func requestProblem(status int, message string, errs []error) *problem {
	code := gatehouse.CodeBadRequest
	switch {
	case status == http.StatusRequestEntityTooLarge:
		code = gatehouse.CodeBodyTooLarge
	case status == http.StatusRequestTimeout:
		code = gatehouse.CodeRequestTimeout
	case status == http.StatusUnprocessableEntity:
		code = gatehouse.CodeInvalid
	case status >= 500:
		code = gatehouse.CodeInternal
		message = "the control plane failed"
	}
	p := problemOf(&gatehouse.Error{Code: code, Message: message})
	for _, err := range errs {
		if d, ok := errors.AsType[*huma.ErrorDetail](err); ok {
			p.Faults = append(p.Faults, gatehouse.Fault{Pointer: d.Location, Reason: d.Message})
		}
	}
	if status < 500 {
		p.Status = status
	}
	return p
}

func writeProblem(w http.ResponseWriter, p *problem) {
	for name, value := range p.headers() {
		w.Header().Set(name, value)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_, _ = w.Write(p.encode()) // a client that is gone needs no answer
}
