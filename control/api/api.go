// Package api is the control plane over HTTP: health, metrics and a read-only
// view of tenants, usage and revisions.
package api

import (
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/metering"
)

// Parts are what the API shows.
type Parts struct {
	Book  *control.Book
	Meter *metering.Meter
	// Ledger keeps usage for good; nil: there is none.
	Ledger Ledger
	// Checks say why the process should not get traffic, by name; a nil error
	// means that the check passes.
	Checks []Check
	// Metrics write the text format of Prometheus, in turn.
	Metrics []func(io.Writer)
	Log     *slog.Logger
	// Loopback says that the listener is bound to loopback. Requests are then
	// refused unless their Host is an address or localhost: a page in a
	// browser that has its own name resolve to loopback learns nothing.
	Loopback bool
}

// Check is one condition of readiness.
type Check struct {
	Name  string
	State func() error
	// Warns says that traffic may come all the same: the state is only told.
	Warns bool
}

type server struct{ Parts }

// Handler returns the API. Paths are taken with and without a trailing slash.
func Handler(p Parts) http.Handler {
	s := &server{p}
	mux := http.NewServeMux()
	for path, handle := range map[string]http.HandlerFunc{
		"/livez":                     s.live,
		"/readyz":                    s.ready,
		"/metrics":                   s.metrics,
		"/api/v1/tenants":            s.tenants,
		"/api/v1/tenants/{id}":       s.tenant,
		"/api/v1/tenants/{id}/usage": s.usage,
		"/api/v1/revisions":          s.revisions,
	} {
		mux.HandleFunc("GET "+path, handle)
		mux.HandleFunc("GET "+path+"/{$}", handle)
		mux.HandleFunc(path, s.readOnly)
		mux.HandleFunc(path+"/{$}", s.readOnly)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		s.fail(w, http.StatusNotFound, gatehouse.CodeNotFound, "there is nothing at this path")
	})
	if !p.Loopback {
		return mux
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !local(r.Host) {
			s.fail(w, http.StatusMisdirectedRequest, gatehouse.CodeNotFound, "this listener answers to localhost and addresses only")
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func local(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil || host == "localhost" || strings.HasSuffix(host, ".localhost")
}

func (s *server) live(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	s.write(w, []byte("ok\n"))
}

// ready answers 503 while a check fails, and with ?verbose each check's state.
func (s *server) ready(w http.ResponseWriter, r *http.Request) {
	var b strings.Builder
	failed := false
	for _, c := range s.Checks {
		err := c.State()
		if err != nil && c.Warns {
			if r.URL.Query().Has("verbose") {
				b.WriteString("warning: " + c.Name + ": " + err.Error() + "\n")
			}
			continue
		}
		if err != nil {
			failed = true
			b.WriteString("not ready: " + c.Name + ": " + err.Error() + "\n")
		} else if r.URL.Query().Has("verbose") {
			b.WriteString("ok: " + c.Name + "\n")
		}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if failed {
		w.WriteHeader(http.StatusServiceUnavailable)
	} else {
		b.WriteString("ready\n")
	}
	s.write(w, []byte(b.String()))
}

func (s *server) metrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	for _, write := range s.Metrics {
		write(w)
	}
}

// list is how collections are answered.
type list[T any] struct {
	Items []T `json:"items"`
}

func (s *server) tenants(w http.ResponseWriter, _ *http.Request) {
	s.answer(w, list[gatehouse.Tenant]{s.Book.Tenants()})
}

func (s *server) tenant(w http.ResponseWriter, r *http.Request) {
	t, err := s.Book.Tenant(gatehouse.TenantID(r.PathValue("id")))
	if err != nil {
		s.fail(w, http.StatusNotFound, gatehouse.CodeNotFound, "there is no such tenant")
		return
	}
	s.answer(w, t)
}

func (s *server) usage(w http.ResponseWriter, r *http.Request) {
	id := gatehouse.TenantID(r.PathValue("id"))
	if _, err := s.Book.Tenant(id); err != nil {
		s.fail(w, http.StatusNotFound, gatehouse.CodeNotFound, "there is no such tenant")
		return
	}
	if r.URL.RawQuery != "" {
		s.ledgerUsage(w, r, id)
		return
	}
	s.answer(w, s.Meter.Usage(id, time.Now()))
}

func (s *server) revisions(w http.ResponseWriter, _ *http.Request) {
	s.answer(w, list[control.Revision]{s.Book.Revisions()})
}

func (s *server) readOnly(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Allow", "GET, HEAD")
	s.fail(w, http.StatusMethodNotAllowed, gatehouse.CodeMethodNotAllowed, "the control API is read-only so far")
}

func (s *server) answer(w http.ResponseWriter, v any) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		s.Log.Error("encode answer", "error", err)
		s.fail(w, http.StatusInternalServerError, gatehouse.CodeInternal, "the answer could not be encoded")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	s.write(w, append(b, '\n'))
}

func (s *server) fail(w http.ResponseWriter, status int, code gatehouse.Code, detail string) {
	p := gatehouse.Problems[code]
	b, err := json.Marshal(struct {
		Type   string         `json:"type"`
		Title  string         `json:"title"`
		Status int            `json:"status"`
		Detail string         `json:"detail"`
		Code   gatehouse.Code `json:"code"`
	}{p.Type, p.Title, status, detail, code})
	if err != nil {
		panic(err) // strings and a number always encode
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	s.write(w, append(b, '\n'))
}

// write gives up when the client is gone.
func (s *server) write(w io.Writer, b []byte) {
	if _, err := w.Write(b); err != nil {
		s.Log.Debug("write answer", "error", err)
	}
}
