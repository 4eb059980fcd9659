package proxy

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/policy"
	"github.com/gatehouse-gateway/gatehouse/proxy/identity"
	"github.com/gatehouse-gateway/gatehouse/proxy/ingress"
)

// Described is a request that nobody has made.
type Described struct {
	Method string // default GET
	// URL is absolute, its path as it would be sent.
	URL string
	// Headers have one value a name. Host takes the place of the URL's.
	Headers map[string]string
	// Key is an API key, put into the field in which the tenant expects one.
	Key string
	// Address is the peer's.
	Address netip.Addr
	// Body is its length in bytes, unless Headers declare one.
	Body int64
}

// Outcomes of a phase.
const (
	OutcomePass   = "pass"
	OutcomeRefuse = "refuse"
)

// Explanation says what would become of a request.
type Explanation struct {
	// Tenant is whose request it would be, empty if nobody's.
	Tenant gatehouse.TenantID
	// Status and Code are of the gateway's own answer; zero where the backend
	// would answer.
	Status int
	Code   gatehouse.Code
	// Phases are those that it would go through, in order: all but count.
	Phases []PhaseOutcome
}

// PhaseOutcome is what one phase would make of a request.
type PhaseOutcome struct {
	Phase, Outcome string
	// Detail is a sentence for the operator.
	Detail string
	// Data are particulars, to be read as JSON; nil: none.
	Data any
}

// Explain takes a described request through the phases of a real one. Nothing
// is sent, charged, counted, remembered or used up, and no place is taken. It
// shows no client certificate, and waits for nobody but the shared store of
// limits. The error is CodeInvalid: what is described is no request.
func (g *Gateway) Explain(d *Described) (*Explanation, error) {
	head, secure, err := g.headOf(d)
	if err != nil {
		return nil, err
	}
	x := &Exchange{Peer: d.Address, TLS: secure, transport: described(head), passing: passing{gateway: g, start: time.Now(), dry: true}}
	x.hooks.gone = func() bool { return false }
	e := &explainer{g: g, x: x}
	for _, step := range [...]struct {
		phase phase
		take  func() (string, any, error)
	}{
		{phaseAdmit, e.admit},
		{phaseResolve, e.resolve},
		{phaseMatch, e.match},
		{phaseIdentify, e.identify},
		{phaseDecide, e.decide},
		{phaseLimit, e.limit},
		{phaseForward, e.forward},
	} {
		o := PhaseOutcome{Phase: step.phase.String(), Outcome: OutcomePass}
		o.Detail, o.Data, err = step.take()
		if err != nil {
			o.Outcome, o.Detail = OutcomeRefuse, cmp.Or(o.Detail, detailOf(err))
		}
		e.out.Phases = append(e.out.Phases, o)
		if err != nil {
			e.refused(err)
			break
		}
		if x.endsHere() && step.phase == phaseLimit {
			e.out.Status = 204
			break
		}
	}
	if x.table != nil {
		e.out.Tenant = gatehouse.TenantID(x.table.id)
	}
	return &e.out, nil
}

// detailOf says what the caller would be told, and the operator's cause.
func detailOf(err error) string {
	e, ok := errors.AsType[*gatehouse.Error](err)
	if !ok {
		return err.Error()
	}
	if e.Err != nil {
		return e.Message + ": " + e.Err.Error()
	}
	return e.Message
}

// headOf writes the request as HTTP/1.1 would carry it.
func (g *Gateway) headOf(d *Described) (head []byte, secure bool, err error) {
	scheme, rest, ok := strings.Cut(d.URL, "://")
	secure = strings.EqualFold(scheme, "https")
	at := strings.IndexAny(rest, "/?#")
	if at < 0 {
		at = len(rest)
	}
	authority := rest[:at]
	target, _, _ := strings.Cut(rest[at:], "#")
	if !strings.HasPrefix(target, "/") {
		target = "/" + target
	}
	if !ok || authority == "" || !secure && !strings.EqualFold(scheme, "http") {
		return nil, false, refuse(gatehouse.CodeInvalid, "the URL is not absolute, as in https://studio.example.com/api/x")
	}
	names := slices.Sorted(maps.Keys(d.Headers))
	length := d.Body > 0
	for _, name := range names {
		switch strings.ToLower(name) {
		case "host":
			authority = d.Headers[name]
		case "content-length", "transfer-encoding":
			length = false
		}
	}
	lines := []string{cmp.Or(d.Method, "GET") + " " + target + " HTTP/1.1", "Host: " + authority}
	for _, name := range names {
		if !strings.EqualFold(name, "host") {
			lines = append(lines, name+": "+d.Headers[name])
		}
	}
	if d.Key != "" {
		lines = append(lines, g.keyField(authority)+": "+d.Key)
	}
	if length {
		lines = append(lines, "Content-Length: "+strconv.FormatInt(d.Body, 10))
	}
	for _, line := range lines {
		if strings.ContainsAny(line, "\r\n") {
			return nil, false, refuse(gatehouse.CodeInvalid, "the method, the URL or a header holds a line break")
		}
	}
	return []byte(strings.Join(lines, crlf) + crlf + crlf), secure, nil
}

// keyField is the field in which the tenant of a host takes API keys.
func (g *Gateway) keyField(authority string) string {
	host := authority
	if at := strings.LastIndexByte(host, ':'); at > strings.LastIndexByte(host, ']') {
		host = host[:at]
	}
	if s := g.hosts.Find([]byte(strings.ToLower(strings.TrimSuffix(host, ".")))); s != nil {
		if t := s.table.Load(); t != nil && t.verifier.KeyHeader() != "" {
			return t.verifier.KeyHeader()
		}
	}
	return gatehouse.DefaultKeyHeader
}

// described is the transport of a request that came on no connection.
type described []byte

func (d described) parse(in *ingress.Request) error { return in.ParseHead(d) }
func (described) interim(int, []ingress.Field)      {}
func (described) gone() bool                        { return false }
func (described) interrupt()                        {}
func (described) share() error                      { return nil }
func (described) trailer() []ingress.Field          { return nil }
func (described) thumbprint() *[sha256.Size]byte    { return nil }
func (described) certificate(*identity.Verifier, time.Time) (*identity.Verified, error) {
	return nil, nil
}

// explainer is one call of Explain. Its methods are the phases of clear and
// carry, without what those leave behind.
type explainer struct {
	g   *Gateway
	x   *Exchange
	out Explanation
}

// refused notes the answer that err stands for.
func (e *explainer) refused(err error) {
	e.out.Code = gatehouse.CodeOf(err)
	e.out.Status = gatehouse.Problems[e.out.Code].Status
	if d, ok := errors.AsType[*deniedError](err); ok && d.status != 0 {
		e.out.Status = d.status
	}
}

func (e *explainer) admit() (string, any, error) {
	x := e.x
	if err := x.transport.parse(&x.In); err != nil {
		return "", nil, err
	}
	x.identifyRequest()
	x.client = e.g.clientAddress(x)
	x.In.Hide(!e.g.trusts(x.Peer))
	if x.looped() {
		return "", nil, refuse(gatehouse.CodeLoop, "the request has passed this gateway too often")
	}
	return fmt.Sprintf("%s %s of %s", x.In.Method, x.In.Path, x.In.Host), struct {
		Host   string `json:"host"`
		Path   string `json:"path"`
		Client string `json:"client"`
	}{string(x.In.Host), string(x.In.Path), x.client.String()}, nil
}

func (e *explainer) resolve() (string, any, error) {
	x := e.x
	if err := e.g.resolve(x); err != nil {
		return "", nil, err
	}
	gate := x.table.slot.gate
	if gate.inFlight.Load() >= gate.bound && int(gate.waiters.Load()) >= gate.queue {
		return "", nil, refuse(gatehouse.CodeTenantBusy, "this tenant has as many requests in flight as it may")
	}
	how := "host " + string(x.In.Host) + " is of tenant " + x.table.id
	if x.domain != nil {
		how = "on the platform domain " + x.domain.Host + " the credential is of tenant " + x.table.id
	}
	return how, struct {
		Tenant   string           `json:"tenant"`
		Plan     gatehouse.PlanID `json:"plan,omitempty"`
		Revision uint64           `json:"revision"`
	}{x.table.id, x.table.planID, x.table.revision}, nil
}

func (e *explainer) match() (string, any, error) {
	x := e.x
	err := x.match()
	if m, ok := errors.AsType[*methodError](err); ok {
		return "no route of this path takes " + string(x.In.Method) + "; there are routes for " + strings.Join(m.allow, ", "),
			map[string][]string{"allow": m.allow}, err
	}
	if err == nil {
		err = x.countable()
	}
	if err == nil && x.In.BodyLength > x.route.maxBody {
		err = errBodyTooLarge
	}
	if err == nil {
		err = x.findUpgrade()
	}
	if err != nil {
		return "", nil, err
	}
	doc, err := x.table.document()
	if err != nil {
		return "", nil, err
	}
	path := doc.Routes[slices.IndexFunc(doc.Routes, func(r gatehouse.Route) bool { return r.ID == x.route.id })].Match.Path
	return fmt.Sprintf("route %s takes it", x.route.id), struct {
		Route   gatehouse.RouteID `json:"route"`
		Path    string            `json:"path"`
		MaxBody int64             `json:"max_body"`
		Upgrade string            `json:"upgrade,omitempty"`
	}{x.route.id, path, x.route.maxBody, string(x.upgrade)}, nil
}

func (e *explainer) identify() (string, any, error) {
	x := e.x
	if err := e.g.identify(x); err != nil {
		detail := ""
		if _, n := x.In.Sole(gatehouse.DefaultKeyHeader); n > 0 && x.table.verifier.KeyHeader() == "" {
			detail = detailOf(err) + "; API keys are not on for this tenant: its document has no identity.api_keys"
		}
		return detail, nil, err
	}
	if x.who == nil {
		return fmt.Sprintf("the caller is anonymous: the route's auth is %s", x.route.auth), nil, nil
	}
	p := x.who.Principal
	return fmt.Sprintf("the caller is %s, by %s", p.ID, x.who.Method), struct {
		Method  string          `json:"method"`
		ID      string          `json:"principal"`
		KeyID   gatehouse.KeyID `json:"key_id,omitempty"`
		Issuer  string          `json:"issuer,omitempty"`
		Roles   []string        `json:"roles,omitempty"`
		Scopes  []string        `json:"scopes,omitempty"`
		Expires time.Time       `json:"expires,omitzero"`
	}{x.who.Method, p.ID, x.who.KeyID, p.Issuer, p.Roles, p.Scopes, x.who.Expires}, nil
}

// judge is prove for a request that leaves nothing behind.
func (g *Gateway) judge(x *Exchange, v *identity.Verifier, c *credentials, kind gatehouse.Credential) (who *identity.Verified, has bool, err error) {
	switch {
	case kind == gatehouse.CredentialKey && c.key != nil:
		who, err = v.JudgeKey(c.key, x.client, x.start)
		if err != nil && g.foreignKey(x, c.key) {
			err = refuse(gatehouse.CodeForeignCredential, "the API key belongs to another tenant")
		}
	case kind == gatehouse.CredentialJWT && c.token != nil && !opaque(v, c.token):
		x.present(c)
		who, err = v.JudgeToken(c.token, &x.presented, x.start)
		if err == nil {
			break
		}
		id, found := g.directory.TenantOfToken(c.token)
		if t := g.other(x, id, found); t != nil {
			if _, other := t.verifier.JudgeToken(c.token, &x.presented, x.start); other == nil {
				err = refuse(gatehouse.CodeForeignCredential, "the token belongs to another tenant")
			}
		}
	case kind == gatehouse.CredentialOpaque && c.token != nil && opaque(v, c.token):
		x.present(c)
		who, err = v.JudgeOpaque(c.token, &x.presented, x.start)
	default:
		return nil, false, nil
	}
	return who, true, err
}

// explainedDecision is what Explain tells of decide.
type explainedDecision struct {
	Allow  bool   `json:"allow"`
	By     string `json:"by,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Decided is the rule that decided, with its module and line.
	Decided *policy.Step  `json:"decided,omitempty"`
	Cost    int64         `json:"cost,omitempty"`
	Limits  []string      `json:"limits,omitempty"`
	Steps   []policy.Step `json:"steps,omitempty"`
}

func (e *explainer) decide() (string, any, error) {
	x := e.x
	p := e.g.engine.Explain(x.table.policy, x.policyInput())
	d := &p.Decision
	x.obliged = d.Obligations
	data := explainedDecision{Allow: d.Allow, By: d.By, Reason: d.Reason, Decided: p.Decided, Steps: p.Steps}
	if d.Obligations != nil {
		data.Cost, data.Limits = d.Obligations.Cost, d.Obligations.Limits
	}
	var where string
	if s := p.Decided; s != nil {
		where = fmt.Sprintf(" by %s at %s:%d", s.Rule, s.Module, s.Line)
		if !s.Holds && s.Failed != "" {
			where += fmt.Sprintf(", for line %d does not hold: %s", s.FailedLine, s.Failed)
		}
	}
	if d.Allow {
		return "allowed" + where, data, nil
	}
	err := x.denied(d)
	switch {
	case d.Err != nil:
		return "the policy could not be evaluated: " + d.Err.Error(), data, err
	case d.Reason != "":
		return fmt.Sprintf("denied%s: %s", where, d.Reason), data, err
	}
	return "denied" + where, data, err
}

func (e *explainer) limit() (string, any, error) {
	x := e.x
	out := x.route.weigh(x.limitRequest())
	if out.Code != "" {
		return out.Detail, out, refuse(out.Code, out.Detail)
	}
	return out.Detail, out, nil
}

// explainedEndpoint is what Explain tells of an endpoint.
type explainedEndpoint struct {
	URL string `json:"url"`
	// State is healthy, unhealthy, ejected, or open (its circuit is).
	State    string `json:"state"`
	InFlight int    `json:"in_flight"`
}

func (e *explainer) forward() (string, any, error) {
	x := e.x
	stats := x.route.backend.Stats()
	endpoints, good, open := make([]explainedEndpoint, len(stats.Endpoints)), 0, 0
	for i := range stats.Endpoints {
		s := &stats.Endpoints[i]
		endpoints[i] = explainedEndpoint{s.URL, stateOf(s), s.InFlight}
		switch endpoints[i].State {
		case stateHealthy:
			good++
		case stateOpen:
			open++
		}
	}
	id := x.route.backendID
	data := struct {
		Backend   gatehouse.BackendID `json:"backend"`
		Endpoints []explainedEndpoint `json:"endpoints"`
	}{id, endpoints}
	if open == len(endpoints) {
		return "", data, refuse(gatehouse.CodeCircuitOpen, fmt.Sprintf("the circuits of all endpoints of backend %s are open", id))
	}
	return fmt.Sprintf("to backend %s, of whose %d endpoints %d are healthy", id, len(endpoints), good), data, nil
}
