package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/api"
)

// controlServer is the listener of the control API and what answers there.
type controlServer struct {
	http.Server
	listener net.Listener
	pair     *certificate // nil: no TLS
	leave    func()       // ends the streams of updates: their followers call again
}

// newControlServer refuses a listener that others could listen to.
func newControlServer(l net.Listener, cfg *config, log *slog.Logger, handler http.Handler) (*controlServer, error) {
	s := &controlServer{listener: l}
	leaving, leave := context.WithCancel(context.Background())
	s.leave = leave
	s.Server = http.Server{
		Handler:           untilLeaving(leaving, handler),
		ReadHeaderTimeout: 5 * time.Second, WriteTimeout: time.Minute, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	if t := cfg.Control.TLS; t.Cert != "" {
		s.pair = &certificate{files: t}
		if err := s.pair.reload(); err != nil {
			return nil, err
		}
		s.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.pair.get}
	}
	if s.pair == nil && !isLoopback(l.Addr()) && cfg.mode() != modeProxy {
		return nil, fmt.Errorf("control plane: %s is not loopback, and tokens would pass in clear: set control.tls.cert and control.tls.key, or listen on 127.0.0.1", l.Addr())
	}
	return s, nil
}

// serve answers until the server is shut down.
func (s *controlServer) serve() error {
	serve := s.Serve
	if s.pair != nil {
		serve = func(l net.Listener) error { return s.ServeTLS(l, "", "") }
	}
	if err := serve(s.listener); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("control plane: %w", err)
	}
	return nil
}

// reload reads the certificate again; one with faults stays as it was.
func (s *controlServer) reload(log *slog.Logger) {
	if s.pair == nil {
		return
	}
	if err := s.pair.reload(); err != nil {
		log.Error("certificate of the control API with faults; the one in use stays", "error", err)
	}
}

// untilLeaving ends streams of updates when leaving ends: they have no end of
// their own that a shutdown could wait for.
func untilLeaving(leaving context.Context, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.TrimSuffix(r.URL.Path, "/") == "/api/v1/stream" {
			ctx, stop := context.WithCancel(r.Context())
			defer stop()
			defer context.AfterFunc(leaving, stop)()
			r = r.WithContext(ctx)
		}
		next.ServeHTTP(w, r)
	})
}

// certificate is a pair of files, as last read without fault.
type certificate struct {
	files controlTLS
	now   atomic.Pointer[tls.Certificate] // what handshakes use; set by reload
}

func (c *certificate) reload() error {
	pair, err := tls.LoadX509KeyPair(c.files.Cert, c.files.Key)
	if err != nil {
		return fmt.Errorf("control.tls: %w", err)
	}
	c.now.Store(&pair)
	return nil
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.now.Load(), nil }

// newTransport returns an HTTP client that trusts the certificates in a file;
// "" is for those of the system.
func newTransport(ca string) (*http.Client, error) {
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute,
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout: 10 * time.Second,
	}
	if ca == "" {
		return &http.Client{Transport: t}, nil
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", ca)
	}
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
	return &http.Client{Transport: t}, nil
}

// handler is what the control listener of a process with a data plane answers.
func (p *process) handler() http.Handler {
	checks := []api.Check{{Name: "configuration", State: p.gateway.Ready}, {Name: "metering", State: p.meter.Health}, {Name: "usage in sinks", State: p.usageMissing, Warns: true}}
	write := []func(io.Writer){p.gateway.WriteMetrics, p.writePolicyMetrics, p.writeMeteringMetrics, p.limits.writeMetrics, writeProcessMetrics}
	loopback := isLoopback(p.control.Addr())
	switch {
	case p.remote != nil:
		write = append(write, p.remote.writeMetrics)
		return operations(func() http.Handler {
			now := []api.Check{{Name: p.remote.heard(), State: p.remote.Ready}}
			return api.Handler(api.Parts{Book: control.NewBook(nil), Checks: append(now, checks...), Metrics: write, Log: p.log})
		})
	case p.store != nil:
		return p.store.handler(api.REST{
			Usage: p.usage, Ledger: p.sinks.ledger.open, Explain: p.explain,
			ShadowReport: p.shadowReport, Decisions: p.decisions, Replay: p.replay,
			Checks: checks, Metrics: write, Log: p.log, Loopback: loopback,
		})
	}
	return api.Handler(api.Parts{Book: p.book, Meter: p.meter, Ledger: p.sinks.ledger.open, Log: p.log, Loopback: loopback, Checks: checks, Metrics: write})
}

// handler completes the parts of the API.
func (s *store) handler(parts api.REST) http.Handler {
	parts.Plane, parts.Operators, parts.Gateways = s.plane, s.operators, s.gateways
	parts.Analytics, parts.Traffic = s.analytics, s.traffic
	s.till.usage.open = parts.Ledger
	parts.Accounts, parts.Webhooks = s.till.accounts, s.till.webhooks
	return api.NewHandler(parts)
}

// operations answers for the health and metrics of a process that has no
// control plane of its own.
func operations(current func() http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch strings.TrimSuffix(r.URL.Path, "/") {
		case "/livez", "/readyz", "/metrics":
			current().ServeHTTP(w, r)
		default:
			http.Error(w, "the control plane is elsewhere: see control.url", http.StatusNotFound)
		}
	})
}
