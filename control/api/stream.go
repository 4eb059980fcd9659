package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
)

// record is one line of a stream: an update, a heartbeat or a question. A full update is
// told in parts, each of them full, which Last ends.
type record struct {
	// Update is what has changed, or a part of everything.
	Update json.RawMessage `json:"update,omitempty"`
	// Last says that the update is whole with this part.
	Last bool `json:"last,omitempty"`
	// Heartbeat is the last revision told, while there is nothing to tell.
	Heartbeat uint64 `json:"heartbeat,omitempty"`
	// Ask is a question, to be answered by answerQuestion.
	Ask *control.Question `json:"ask,omitempty"`
}

const (
	gatewaysPath = "/api/v1/gateways"
	streamPath   = "/api/v1/stream"

	followOperation = "followUpdates"
	gatewayHeader   = "X-Gatehouse-Gateway"
)

func (s *rest) gateways() {
	add(s, "listGateways", http.MethodGet, gatewaysPath, "List the data planes", s.listGateways)
	add(s, "getGateway", http.MethodGet, gatewaysPath+"/{gateway}", "Read the status of a data plane", s.getGateway)
	add(s, "reportOutcome", http.MethodPost, gatewaysPath+"/{gateway}/outcomes", "A data plane's answer to an update", s.reportOutcome, body[gatehouse.Outcome](), noContent, large)
	add(s, "answerQuestion", http.MethodPost, gatewaysPath+"/{gateway}/answers", "A data plane's answer to a question", s.answerQuestion, body[control.Answer](), noContent)
	add(s, "reportTraffic", http.MethodPost, gatewaysPath+"/{gateway}/traffic", "What requests at a data plane came to, by the minute", s.reportTraffic, body[control.TrafficReport](), noContent, mayBeAbsent)
	add(s, "reportUsage", http.MethodPost, gatewaysPath+"/{gateway}/usage", "Usage that a data plane has counted, for the ledger", s.reportUsage, body[control.UsageReport](), noContent, mayBeAbsent)
	add(s, followOperation, http.MethodGet, streamPath, "Updates for a data plane as NDJSON: a snapshot where it is needed, then each change", s.follow, lines[record])
}

func (s *rest) listGateways(ctx context.Context, _ *struct{}) (*one[control.GatewayList], error) {
	return tagged(s.Gateways.All(ctx), 0, nil)
}

// GatewayPath names a data plane.
type GatewayPath struct {
	Gateway string `path:"gateway" maxLength:"200" doc:"Name of the data plane."`
}

func (s *rest) getGateway(ctx context.Context, in *GatewayPath) (*one[control.GatewayStatus], error) {
	g, err := s.Gateways.Find(ctx, in.Gateway)
	return tagged(g, 0, err)
}

func (s *rest) reportOutcome(_ context.Context, in *struct {
	GatewayPath
	RawBody []byte
},
) (*struct{}, error) {
	var o gatehouse.Outcome
	if err := json.Unmarshal(in.RawBody, &o); err != nil {
		return nil, &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: "an outcome is expected"}
	}
	return nil, s.Gateways.Report(in.Gateway, o)
}

type followQuery struct {
	After   uint64 `query:"after" doc:"The revision that the data plane has; 0: none."`
	Hash    string `query:"hash" maxLength:"64" doc:"The journal's hash at that revision."`
	Gateway string `header:"X-Gatehouse-Gateway" required:"true" maxLength:"200" doc:"The data plane's name."`
	Version string `header:"User-Agent" maxLength:"1000" doc:"Shown as the version of the data plane."`
}

func (s *rest) follow(ctx context.Context, in *followQuery) (*huma.StreamResponse, error) {
	if in.Gateway == control.LocalGateway {
		return nil, &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: `the name "local" is that of the data plane in this process: set control.gateway to another one`}
	}
	known, err := s.Plane.Knows(ctx, control.Position{Revision: in.After, Hash: in.Hash})
	if err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		ctx.SetHeader("Content-Type", ndjsonType)
		if ctx.Method() == http.MethodHead {
			return
		}
		if err := s.stream(ctx, in, known); err != nil && ctx.Context().Err() == nil {
			level := s.Log.Warn
			if broken := net.Error(nil); errors.As(err, &broken) {
				level = s.Log.Info // it went away, or did not read
			}
			level("stream of updates ended", "gateway", in.Gateway, "error", err)
		}
	}}, nil
}

// stream writes updates and heartbeats until the follower is gone. A follower
// that does not read holds up nobody: what is changed meanwhile becomes one
// update, and after a while its connection is given up; it comes back from
// where it was.
func (s *rest) stream(hctx huma.Context, in *followQuery, known bool) error {
	ctx, stop := context.WithCancel(hctx.Context())
	defer stop()
	end := s.Gateways.Connect(in.Gateway, in.Version, hctx.RemoteAddr())
	defer end()
	w := newLineWriter(hctx)
	from := control.Position{Revision: in.After, Hash: in.Hash}
	if err := w.flush(); err != nil { // the head: it is connected
		return err
	}
	if !known {
		var err error
		if from, err = s.writeSnapshot(ctx, w, in); err != nil {
			return err
		}
	}
	updates := make(chan gatehouse.Update)
	failed := make(chan error, 1)
	go func() {
		defer close(failed)
		failed <- forward(ctx, s.Plane, from, updates)
	}()
	defer func() { // forward ends with its context, unless it has ended
		stop()
		for range failed {
		}
	}()
	questions, deaf := s.Gateways.Questions(in.Gateway)
	defer deaf()
	beat := time.NewTicker(s.Heartbeat)
	defer beat.Stop()
	for {
		select {
		case q := <-questions:
			if err := w.write(record{Ask: &q}); err != nil {
				return err
			}
		case err := <-failed:
			return err
		case u := <-updates:
			from.Revision = u.Revision
			text, err := json.Marshal(u)
			if err != nil {
				return err
			}
			s.Gateways.Send(in.Gateway, u.Revision)
			if err := w.write(record{Update: text, Last: true}); err != nil {
				return err
			}
		case <-beat.C:
			if err := w.write(record{Heartbeat: from.Revision}); err != nil {
				return err
			}
		}
		if err := w.flush(); err != nil {
			return err
		}
	}
}

// forward hands on updates until ctx ends.
func forward(ctx context.Context, p *control.Plane, from control.Position, to chan<- gatehouse.Update) error {
	for u, err := range p.Deltas(ctx, from) {
		if err != nil {
			return err
		}
		select {
		case to <- u:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return ctx.Err()
}

// writeSnapshot writes the whole state. While it is made the follower hears
// nothing but heartbeats.
func (s *rest) writeSnapshot(ctx context.Context, w *lineWriter, in *followQuery) (control.Position, error) {
	type result struct {
		snapshot *control.Snapshot
		err      error
	}
	made := make(chan result, 1)
	go func() {
		snapshot, err := s.Plane.Snapshot(ctx, in.After)
		made <- result{snapshot, err}
	}()
	beat := time.NewTicker(s.Heartbeat)
	defer beat.Stop()
	for {
		select {
		case r := <-made:
			if r.err != nil {
				return control.Position{}, r.err
			}
			for text, last := range r.snapshot.Parts() {
				if last {
					s.Gateways.Send(in.Gateway, r.snapshot.Revision)
				}
				if err := w.write(record{Update: text, Last: last}); err != nil {
					return r.snapshot.Position, err
				}
			}
			return r.snapshot.Position, w.flush()
		case <-beat.C:
			err := w.write(record{Heartbeat: 1})
			if err == nil {
				err = w.flush()
			}
			if err != nil {
				<-made // it shares the plane's context, which has ended or will
				return control.Position{}, err
			}
		}
	}
}

// patience bounds the time that a follower takes to read what was written.
const patience = 30 * time.Second

// lineWriter writes values, each a line. It gives each write its own time,
// whatever the server's: a stream has no end.
type lineWriter struct {
	to         *bufio.Writer
	controller *http.ResponseController
}

func newLineWriter(ctx huma.Context) *lineWriter {
	_, w := humago.Unwrap(ctx)
	l := &lineWriter{controller: http.NewResponseController(w)}
	l.to = bufio.NewWriterSize(timed{w, l.controller}, 64<<10)
	// The server's bound on reading a request would end the context too.
	_ = l.controller.SetReadDeadline(time.Time{}) // a recorder of answers has none
	return l
}

// timed gives each write its time.
type timed struct {
	http.ResponseWriter
	controller *http.ResponseController
}

// Write sets the deadline and writes.
func (t timed) Write(b []byte) (int, error) {
	if err := t.controller.SetWriteDeadline(time.Now().Add(patience)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	return t.ResponseWriter.Write(b)
}

// Write writes raw bytes, which are lines.
func (w *lineWriter) Write(b []byte) (int, error) { return w.to.Write(b) }

func (w *lineWriter) write(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.to.Write(append(b, '\n'))
	return err
}

func (w *lineWriter) flush() error {
	if err := w.to.Flush(); err != nil {
		return err
	}
	if err := w.controller.SetWriteDeadline(time.Now().Add(patience)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if err := w.controller.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// streamed answers lines.
func (s *rest) streamed(f func(*lineWriter) error) *huma.StreamResponse {
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		ctx.SetHeader("Content-Type", ndjsonType)
		w := newLineWriter(ctx)
		err := f(w)
		if err == nil {
			err = w.flush()
		}
		if err != nil {
			s.broken(ctx, err)
		}
	}}
}

// broken ends an answer that has begun and cannot be finished, so that the
// caller does not take it for whole.
func (s *rest) broken(ctx huma.Context, err error) {
	if ctx.Context().Err() == nil {
		s.Log.Warn("an answer ended early", "operation", ctx.Operation().OperationID, "error", err)
	}
	panic(http.ErrAbortHandler)
}
