package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
)

const (
	gatewaysPath = "/api/v1/gateways"
	streamPath   = "/api/v1/stream"
	// gatewayHeader names a data plane on its stream.
	gatewayHeader = "X-Gatehouse-Gateway"
)

// record is one line of a stream. Exactly one field is set. A full update is
// told in parts, which Last ends.
type record struct {
	Update *gatehouse.Update `json:"update,omitempty"`
	// Last says that the update is whole with this part.
	Last bool `json:"last,omitempty"`
	// Heartbeat is the journal's revision, while there is nothing to tell.
	Heartbeat uint64 `json:"heartbeat,omitempty"`
}

// part bounds the tenants, and the keys, of one line.
const part = 200

// parts cuts a full update into lines.
func parts(u gatehouse.Update) []record {
	if !u.Full {
		return []record{{Update: &u, Last: true}}
	}
	var out []record
	for i := 0; ; i++ {
		p := gatehouse.Update{Revision: u.Revision, Full: true, Hash: u.Hash}
		if i == 0 {
			p.Plans = u.Plans
		}
		p.Tenants = u.Tenants[min(i*part, len(u.Tenants)):min((i+1)*part, len(u.Tenants))]
		p.Keys = u.Keys[min(i*10*part, len(u.Keys)):min((i+1)*10*part, len(u.Keys))]
		last := (i+1)*part >= len(u.Tenants) && (i+1)*10*part >= len(u.Keys)
		out = append(out, record{Update: &p, Last: last})
		if last {
			return out
		}
	}
}

func (s *rest) gateways() {
	add(s, "listGateways", http.MethodGet, gatewaysPath, "List the data planes that follow this control plane", nil, func(context.Context, *struct{}) (*answer[control.Page[control.GatewayStatus]], error) {
		return tagged(control.Page[control.GatewayStatus]{Items: s.Gateways.List()}, 0), nil
	})
	add(s, "reportOutcome", http.MethodPost, gatewaysPath+"/{gateway}/outcomes", "A data plane's answer to an update", gatehouse.Outcome{}, func(_ context.Context, in *struct {
		Gateway string `path:"gateway" maxLength:"200"`
		RawBody []byte
	},
	) (*struct{}, error) {
		var o gatehouse.Outcome
		if err := json.Unmarshal(in.RawBody, &o); err != nil {
			return nil, &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: "an outcome is expected", Err: err}
		}
		s.Gateways.Report(in.Gateway, o)
		return nil, nil
	}, noContent, large)
	add(s, "followUpdates", http.MethodGet, streamPath, "Updates for a data plane as NDJSON: a snapshot where it is needed, then each change", nil, s.follow)
}

type followQuery struct {
	After   uint64 `query:"after" doc:"The revision that the data plane has; 0: none."`
	Hash    string `query:"hash" doc:"The journal's hash at that revision."`
	Gateway string `header:"X-Gatehouse-Gateway" required:"true" maxLength:"200" doc:"The data plane's name."`
	Version string `header:"User-Agent"`
}

func (s *rest) follow(_ context.Context, in *followQuery) (*huma.StreamResponse, error) {
	if in.Gateway == "" {
		return nil, &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: "a data plane names itself in " + gatewayHeader}
	}
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		ctx.SetHeader("Content-Type", "application/x-ndjson")
		err := s.stream(ctx, in)
		if err != nil && !errors.Is(err, context.Canceled) {
			s.Log.Warn("stream of updates ended", "gateway", in.Gateway, "error", err)
		}
	}}, nil
}

// stream writes updates and heartbeats until the follower is gone. A follower
// that does not read holds up nobody: its connection is given up after a
// while, and it comes back from where it was.
func (s *rest) stream(hctx huma.Context, in *followQuery) error {
	ctx, stop := context.WithCancel(hctx.Context())
	defer stop()
	end := s.Gateways.Connect(in.Gateway, in.Version, hctx.RemoteAddr())
	defer end()
	updates := make(chan gatehouse.Update)
	failed := make(chan error, 1)
	go func() {
		for u, err := range s.Plane.Follow(ctx, control.Position{Revision: in.After, Hash: in.Hash}) {
			if err != nil {
				failed <- err
				return
			}
			select {
			case updates <- u:
			case <-ctx.Done():
				failed <- ctx.Err()
				return
			}
		}
		failed <- nil
	}()
	defer func() { stop(); <-failed }()
	w := &lineWriter{to: bufio.NewWriterSize(hctx.BodyWriter(), 64<<10), flush: flusher(hctx.BodyWriter())}
	beat := time.NewTicker(s.Heartbeat)
	defer beat.Stop()
	var revision uint64
	for {
		select {
		case err := <-failed:
			failed <- nil
			return err
		case u := <-updates:
			revision = u.Revision
			s.Gateways.Send(in.Gateway, u.Revision)
			for _, r := range parts(u) {
				if err := w.write(r); err != nil {
					return err
				}
			}
		case <-beat.C:
			if err := w.write(record{Heartbeat: revision}); err != nil {
				return err
			}
		}
		if err := w.done(); err != nil {
			return err
		}
	}
}

// lineWriter writes records, each a line.
type lineWriter struct {
	to    *bufio.Writer
	flush func() error
}

func (w *lineWriter) write(r record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = w.to.Write(append(b, '\n'))
	return err
}

func (w *lineWriter) done() error {
	if err := w.to.Flush(); err != nil {
		return err
	}
	return w.flush()
}

// patience bounds the time that a follower takes to read what was written.
const patience = 30 * time.Second

// flusher sends what was written so far, and gives the next write its time.
func flusher(w any) func() error {
	rw, ok := w.(http.ResponseWriter)
	if !ok {
		return func() error { return nil }
	}
	c := http.NewResponseController(rw)
	return func() error {
		if err := c.SetWriteDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		return c.Flush()
	}
}

// insight are live figures of tenants.
func (s *rest) insight() {
	add(s, "getUsage", http.MethodGet, tenantsPath+"/{tenant}/usage", "A tenant's usage", nil, func(ctx context.Context, in *tenantPath) (*huma.StreamResponse, error) {
		if _, err := s.Plane.Tenant(ctx, in.Tenant); err != nil {
			return nil, err
		}
		b, err := json.Marshal(s.Meter.Usage(in.Tenant, time.Now()))
		if err != nil {
			return nil, err
		}
		return &huma.StreamResponse{Body: func(ctx huma.Context) {
			ctx.SetHeader("Content-Type", "application/json")
			ctx.SetHeader("Content-Length", strconv.Itoa(len(b)))
			if _, err := ctx.BodyWriter().Write(b); err != nil {
				s.Log.Debug("write answer", "error", err)
			}
		}}, nil
	})
	notBuilt := func(id, method, path, summary, what string) {
		add(s, id, method, path, summary, nil, func(context.Context, *tenantPath) (*struct{}, error) {
			return nil, &gatehouse.Error{Code: gatehouse.CodeNotBuilt, Message: what}
		}, func(op *huma.Operation) { op.Errors = append(op.Errors, http.StatusNotImplemented) })
	}
	notBuilt("checkCompliance", http.MethodPost, tenantsPath+"/{tenant}/compliance", "Compliance checks; not available yet", "compliance checks are not available yet")
}

// operations are what whoever runs the process asks for; they take no token.
func (s *rest) operations(mux *http.ServeMux) {
	o := &server{Parts{Checks: s.Checks, Metrics: s.Metrics, Log: s.Log}}
	mux.HandleFunc("GET /livez", o.live)
	mux.HandleFunc("GET /readyz", o.ready)
	mux.HandleFunc("GET /metrics", o.metrics)
}
