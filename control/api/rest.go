package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/invoicing"
	"github.com/gatehouse-gateway/gatehouse/control/webhook"
	"github.com/gatehouse-gateway/gatehouse/metering"
)

// REST are the parts of the API over a stored control plane. Functions may be
// called by many goroutines at once; what is nil is answered 501 not-built.
type REST struct {
	Plane     *control.Plane
	Operators *control.Operators
	Gateways  *control.Gateways
	// Accounts are what tenants owe, and Webhooks tell of it. Nil: there is no
	// billing.
	Accounts *invoicing.Accounts
	Webhooks *webhook.Sender
	// Usage returns what a tenant has used.
	Usage func(context.Context, gatehouse.TenantID) (metering.Usage, error)
	// Ledger keeps usage for good.
	Ledger Ledger
	// Explain tells what would become of a request.
	Explain func(context.Context, control.Request) (control.Explanation, error)
	// Analytics are from the store, and Traffic adds to them.
	Analytics func(context.Context, control.AnalyticsQuery) (control.Analytics, error)
	Traffic   func(context.Context, *control.TrafficReport) error
	// ShadowReport tells how a tenant's shadow policy decides, as JSON.
	ShadowReport func(context.Context, gatehouse.TenantID) (json.RawMessage, error)
	// Decisions yields the newest decisions that a tenant's log keeps, each as
	// JSON in the form of OPA's decision logs.
	Decisions func(ctx context.Context, tenant gatehouse.TenantID, limit int) (iter.Seq[json.RawMessage], error)
	// Replay decides the requests of a tenant's log by other modules.
	Replay func(ctx context.Context, tenant gatehouse.TenantID, modules []gatehouse.Module) (json.RawMessage, error)
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

// DefaultHeartbeat is the default of REST.Heartbeat.
const DefaultHeartbeat = 5 * time.Second

// rest serves REST.
type rest struct {
	REST
	api huma.API
	mux *http.ServeMux
	// heavy holds a token for each request with a large body.
	heavy chan struct{}
}

// NewHandler returns the API over a stored control plane.
func NewHandler(parts REST) http.Handler {
	s := newREST(parts)
	o := &server{Parts{Checks: s.Checks, Metrics: s.Metrics, Log: s.Log}}
	s.mux.HandleFunc("GET /livez", o.live)
	s.mux.HandleFunc("GET /readyz", o.ready)
	s.mux.HandleFunc("GET /metrics", o.metrics)
	s.mux.HandleFunc("GET /openapi.json", s.openAPI())
	s.mux.HandleFunc("/", s.nothing)
	return s.frame(s.mux)
}

// newREST registers every operation.
func newREST(parts REST) *rest {
	if parts.Heartbeat == 0 {
		parts.Heartbeat = DefaultHeartbeat
	}
	s := &rest{REST: parts, mux: http.NewServeMux(), heavy: make(chan struct{}, heavy)}
	config := document()
	s.api = answersJSON{humago.New(s.mux, config), config}
	s.api.UseMiddleware(s.authenticate, mediaTypes, s.weigh, sound)
	s.tenants()
	s.settings()
	s.keys()
	s.policies()
	s.enforcement()
	s.plans()
	s.tokens()
	s.history()
	s.audit()
	s.apply()
	s.gateways()
	s.insight()
	s.usage()
	s.billing()
	s.absent()
	return s
}

// answersJSON is an API that answers JSON whatever a caller accepts: operations
// that have other forms choose for themselves. (huma's own choice panics at
// what is no weight: "a/b;q,c/d".)
type answersJSON struct {
	huma.API
	config huma.Config
}

// Config is what huma looks for beside its interface.
func (a answersJSON) Config() huma.Config { return a.config }

// Negotiate returns the media type of every answer.
func (answersJSON) Negotiate(string) (string, error) { return jsonType, nil }

// frame takes paths with and without a trailing slash, guards a loopback
// listener against pages whose own name resolves to it, and keeps out what no
// store can look for.
func (s *rest) frame(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if s.Loopback && !local(r.Host) {
			writeProblem(w, problemOf(&gatehouse.Error{Code: gatehouse.CodeMisdirected, Message: "this listener answers to localhost and addresses only"}))
			return
		}
		query := r.URL.Query()
		if !plainText(r.URL.Path) || !plainQuery(query) {
			writeProblem(w, problemOf(&gatehouse.Error{Code: gatehouse.CodeBadRequest, Message: "the URL holds what is not UTF-8 text, or a parameter twice"}))
			return
		}
		if p := r.URL.Path; len(p) > 1 && p[len(p)-1] == '/' {
			r.URL.Path = strings.TrimSuffix(p, "/")
			r.URL.RawPath = strings.TrimSuffix(r.URL.RawPath, "/")
		}
		if at := r.URL.EscapedPath(); path.Clean(at) != at { // the mux would send the caller elsewhere
			s.nothing(w, &http.Request{Method: r.Method, URL: &url.URL{Path: "/"}})
			return
		}
		defer s.recovered(w)
		next.ServeHTTP(w, r)
	})
}

func plainText(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }

func plainQuery(q map[string][]string) bool {
	for name, values := range q {
		if len(values) != 1 && !repeats(name) || !plainText(name) || !plainText(strings.Join(values, "")) {
			return false
		}
	}
	return true
}

// recovered ends the answer of a handler that panicked: huma does where a
// client has gone while its answer was written.
func (s *rest) recovered(w http.ResponseWriter) {
	if r := recover(); r != nil {
		if err, ok := r.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			panic(r)
		}
		s.Log.Error("control API", "panic", r)
		writeProblem(w, problemOf(errors.New("a handler panicked")))
	}
}

// methods are those that an operation may have.
var methods = [...]string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}

// nothing answers what no operation is for.
func (s *rest) nothing(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, m := range methods {
		other := *r
		other.Method = m
		if _, pattern := s.mux.Handler(&other); pattern != "/" {
			allowed = append(allowed, m)
		}
	}
	if len(allowed) == 0 {
		writeProblem(w, problemOf(&gatehouse.Error{Code: gatehouse.CodeNotFound, Message: "there is nothing at this path"}))
		return
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	writeProblem(w, problemOf(&gatehouse.Error{Code: gatehouse.CodeMethodNotAllowed, Message: "this path does not take the method; see Allow"}))
}
