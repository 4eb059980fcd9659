package proxy

import (
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/policy"
	"github.com/gatehouse-gateway/gatehouse/proxy/identity"
	"github.com/gatehouse-gateway/gatehouse/ratelimit"
)

// deniedError is a refusal by policy.
type deniedError struct {
	problem *gatehouse.Error
	status  int // the policy's own, 0: the table's
}

func (e *deniedError) Error() string { return e.problem.Error() }
func (e *deniedError) Unwrap() error { return e.problem }

// denied turns a decision into the refusal that the caller may see: the
// reason is shown only where the policy says that it is public.
func (x *Exchange) denied(d *policy.Decision) error {
	e := &gatehouse.Error{Code: gatehouse.CodeDenied, Message: "the request is not allowed"}
	if d.Err != nil {
		e.Code, e.Message, e.Err = gatehouse.CodePolicyFailed, "the policy could not be evaluated, so the request is not allowed", d.Err
		return e
	}
	if d.Reason != "" {
		e.Err = errors.New(d.By + ": " + d.Reason)
	} else {
		e.Err = errors.New(d.By + " does not allow it")
	}
	if d.Public && d.Reason != "" {
		e.Message = d.Reason
	}
	return &deniedError{e, d.Status}
}

// limitedError is a refusal by a limit.
type limitedError struct {
	problem *gatehouse.Error
	verdict *ratelimit.Verdict
}

func (e *limitedError) Error() string { return e.problem.Error() }
func (e *limitedError) Unwrap() error { return e.problem }

// answer makes err the exchange's answer: a problem document (RFC 9457) with
// Proxy-Status (RFC 9209), in place of anything taken from the backend.
func (x *Exchange) answer(err error) {
	e, ok := errors.AsType[*gatehouse.Error](err)
	if !ok {
		e = &gatehouse.Error{Code: gatehouse.CodeInternal, Message: "the gateway failed on this request", Err: err}
	}
	p := gatehouse.Problems[e.Code]
	if len(x.id) == 0 {
		x.identifyRequest()
	}
	x.cause, x.code = e.Err, e.Code
	if x.Tunnel != nil {
		_ = x.Tunnel.Close() // nothing has passed
		x.Tunnel = nil
	}
	x.resp.Release()
	clear(x.Fields)
	x.Fields, x.Stream = x.Fields[:0], nil
	clear(x.units[:])
	x.Status = p.Status
	token := p.ProxyStatus
	if x.failure != "" {
		token = x.failure
	}
	x.failure = token
	if d, ok := errors.AsType[*deniedError](err); ok && d.status != 0 {
		x.Status = d.status
	}

	x.add("Content-Type", "application/problem+json")
	x.add("Cache-Control", "no-store")
	x.add("Proxy-Status", "gatehouse; error="+token)
	x.Fields = append(x.Fields, Field{nameRequestID, x.id})
	switch x.Status {
	case 401:
		x.challenge(e)
	case 405:
		allow := "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
		if m, ok := errors.AsType[*methodError](err); ok {
			allow = strings.Join(m.allow, ", ")
		}
		x.add("Allow", allow)
	}
	limit, isLimit := errors.AsType[*limitedError](err)
	if isLimit {
		x.limitAnswer()
		if seconds := limit.verdict.Retry; seconds != ratelimit.Never {
			x.add("Retry-After", strconv.FormatInt(ceilSeconds(seconds), 10))
		}
	}
	if x.Status == 503 && !isLimit {
		x.add("Retry-After", "1")
	}

	b := append([]byte(nil), `{"type":`...)
	b = appendJSON(b, p.Type)
	b = appendJSON(append(b, `,"title":`...), p.Title)
	b = strconv.AppendInt(append(b, `,"status":`...), int64(x.Status), 10)
	b = appendJSON(append(b, `,"detail":`...), e.Message)
	b = appendJSON(append(b, `,"code":`...), string(e.Code))
	if isLimit {
		b = appendJSON(append(b, `,"violated-policies":[`...), x.route.fields.name(limit.verdict.Binding))
		b = append(b, ']')
	}
	b = appendJSON(append(b, `,"request_id":`...), x.id)
	x.Body = append(b, "}\n"...)
	if e.Code == gatehouse.CodeClientGone {
		x.Body = nil // nobody reads it, and nobody pays for it
	}
	x.Length = int64(len(x.Body))
	if x.series != nil {
		x.series.Deny() // the backend's answer was counted
	}
	x.count()
	if x.isGRPC() {
		x.grpcAnswer(e.Message)
	}
}

// challenge names the credentials that would do (RFC 9110, 11.6.1), and what
// is wrong with the one that came (RFC 6750, 3; RFC 9449, 7.1).
func (x *Exchange) challenge(e *gatehouse.Error) {
	bearer, keyHeader := true, gatehouse.DefaultKeyHeader
	if x.domain == nil && x.table != nil {
		v := x.table.verifier
		bearer, keyHeader = v.TakesTokens() && x.asksFor(gatehouse.CredentialJWT) || v.TakesOpaque() && x.asksFor(gatehouse.CredentialOpaque), v.KeyHeader()
		if !x.asksFor(gatehouse.CredentialKey) {
			keyHeader = ""
		}
	} else if x.domain != nil {
		bearer = x.domain.by(ResolveToken)
		if !x.domain.by(ResolveKey) {
			keyHeader = ""
		}
	}
	realm := ` realm="` + string(x.In.Host) + `"`
	if bearer || keyHeader == "" {
		v := "Bearer" + realm
		if refusal, ok := errors.AsType[*identity.Refusal](e); ok {
			v = string(refusal.Scheme) + realm + `, error="` + refusal.Reason + `"`
			if refusal.Scheme == identity.SchemeDPoP {
				v += `, algs="` + identity.ProofAlgorithms + `"`
			}
		} else if e.Code == gatehouse.CodeInvalidCredential {
			v += `, error="` + identity.ReasonToken + `"`
		} else if x.obliged != nil && x.obliged.StepUp != "" { // RFC 9470
			v += `, error="insufficient_user_authentication", acr_values=` + strconv.QuoteToASCII(x.obliged.StepUp)
		}
		x.add("WWW-Authenticate", v)
	}
	if keyHeader != "" {
		x.add("WWW-Authenticate", "ApiKey"+realm+`, header="`+keyHeader+`"`)
	}
}

// asksFor reports whether the route takes a kind of credential.
func (x *Exchange) asksFor(kind gatehouse.Credential) bool {
	return x.route == nil || slices.Contains(x.route.any, kind) && len(x.route.all) == 0 || slices.Contains(x.route.all, kind)
}

// ceilSeconds rounds up, so that a caller who waits so long is not too early.
func ceilSeconds(d time.Duration) int64 {
	return int64(math.Ceil(d.Seconds()))
}
