package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"sync/atomic"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// A request to an HTTP/2 backend is a stream of a link. The library has
// goroutines of its own: one for each link, and one for each request, which
// also reads the request's body. They end with the link and the stream.
//
// The first-byte timeout begins when the request has been sent entirely: while
// a client streams, the backend may be silent, unless it also takes no more of
// the request for the idle timeout. Once the answer has begun, the idle
// timeout is one in which nothing moved in either direction.

// stream is one request and its answer.
type stream struct {
	link *link
	req  *Request
	out  *outbound // nil without a body
	idle time.Duration

	cancel   context.CancelFunc
	done     chan struct{} // closed when the round trip is over: then res or err is set
	sent     chan struct{} // closed when the request is sent entirely
	interim  chan early
	interims int // seen; the link's reader's
	res      *http.Response
	err      error

	ended     atomic.Int64  // the instant when sent was closed; 0: it is not
	firstByte time.Duration // from there to the answer; 0 where that came before
	buf       *buffer       // of a whole body; nil before
	watch     watch
}

// early is a 1xx answer on its way to Do's goroutine.
type early struct {
	status int
	header textproto.MIMEHeader
}

// attemptStream is attempt where the backend speaks HTTP/2.
func (b *Backend) attemptStream(e *endpoint, req *Request, fresh bool, resp *Response) failure {
	if req.upgrade {
		e.inFlight.Add(-1)
		return failure{err: explain(errNoUpgrade, awaiting, e.url)}
	}
	scheme := "http"
	if e.target.tls {
		scheme = "https"
	}
	hr, err := requestOf(req.Head, scheme)
	if err != nil {
		e.inFlight.Add(-1)
		return failure{err: &Error{Code: gatehouse.CodeBadRequest, Token: "http_request_error", Endpoint: e.url, Err: err}}
	}
	l, failed := b.link(e, fresh, resp)
	if failed != nil {
		e.inFlight.Add(-1)
		f := failure{err: failed}
		if b.retries.connect && (failed.Code != gatehouse.CodeBackendBusy || len(b.members) > 1) {
			f.cause = byConnect
		}
		return f
	}
	s := newStream(b, l, req)
	resp.stream = s
	during, err := s.open(hr, b)
	if err == nil {
		err = resp.beginStream(req)
	}
	if err != nil {
		f := b.fallen(s, err, during)
		resp.detach()
		return f
	}
	l.used.Store(true)
	if b.retries.on(resp.Status) && req.replayable() {
		return failure{cause: byStatus}
	}
	return failure{}
}

func newStream(b *Backend, l *link, req *Request) *stream {
	s := &stream{
		link: l, req: req, idle: b.idle,
		done: make(chan struct{}), sent: make(chan struct{}), interim: make(chan early, maxInterim),
	}
	if req.BodyLength != 0 {
		s.out = newOutbound(req, b.client.clock)
	}
	s.watch.stream = s
	return s
}

// open sends the request and waits for the answer's header section. It reports
// during what phase an error came up.
func (s *stream) open(hr *http.Request, b *Backend) (phase, error) {
	ctx, cancel := context.WithCancel(httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
		Got1xxResponse: s.gotInterim,
		WroteRequest: func(info httptrace.WroteRequestInfo) {
			if info.Err == nil {
				s.ended.Store(int64(b.client.clock.now()))
				close(s.sent)
			}
		},
	}))
	s.cancel = cancel
	hr = hr.WithContext(ctx)
	if s.out != nil {
		hr.Body, hr.ContentLength, hr.Trailer = s.out, s.req.BodyLength, s.out.fields
	}
	go func() {
		defer close(s.done)
		defer func() {
			if p := recover(); p != nil { // one request fails, not the process
				s.err = fmt.Errorf("panic in a round trip: %v", p)
			}
		}()
		s.res, s.err = s.link.client.RoundTrip(hr)
	}()
	clock := b.client.clock
	by := clock.now() + b.connect + b.firstByte // without a body it is sent at once
	sent := s.sent
	timer := time.NewTimer(s.tick(by - clock.now()))
	defer timer.Stop()
	for {
		select {
		case <-s.done:
			s.pass(len(s.interim))
			if ended := s.ended.Load(); ended != 0 {
				s.firstByte = max(clock.now()-time.Duration(ended), 0)
			}
			return awaiting, s.err
		case i := <-s.interim:
			s.tell(i)
			continue
		case <-sent:
			sent = nil
			by = time.Duration(s.ended.Load()) + b.firstByte
			timer.Reset(s.tick(b.firstByte))
			continue
		case <-timer.C:
		}
		during, err := awaiting, error(nil)
		now := clock.now()
		if sent != nil && s.out != nil {
			during, by = writing, s.out.moved(now)+s.idle
		}
		switch {
		case s.req.Gone != nil && s.req.Gone():
			err = errGone
		case now >= by:
			err = os.ErrDeadlineExceeded
		default:
			timer.Reset(s.tick(by - now))
			continue
		}
		cancel()
		<-s.done
		return during, err
	}
}

// tick is how long to wait where left is left.
func (s *stream) tick(left time.Duration) time.Duration {
	if s.req.Gone != nil || s.out != nil {
		return min(poll, left)
	}
	return left
}

// gotInterim is called by the link's reader, which must not wait for a client.
func (s *stream) gotInterim(status int, header textproto.MIMEHeader) error {
	switch s.interims++; {
	case status == 101:
		return errSwitching
	case s.interims > maxInterim:
		return errInterim
	case status != 100 && s.req.Interim != nil:
		s.interim <- early{status, header} // there is room for all
	}
	return nil
}

// pass tells of the n interim answers that came.
func (s *stream) pass(n int) {
	for range n {
		s.tell(<-s.interim)
	}
}

func (s *stream) tell(i early) {
	if fields, err := fieldsOf(nil, http.Header(i.header)); err == nil {
		s.req.Interim(i.status, fields)
	}
}

// fallen is the failure of a stream before its answer.
func (b *Backend) fallen(s *stream, err error, during phase) failure {
	if e, ok := errors.AsType[*Error](err); ok {
		e.Endpoint = s.link.conn.endpoint.url
		return failure{err: e}
	}
	f := failure{err: explainStream(err, during, s.link.conn.endpoint.url)}
	switch {
	case unprocessed(err) && (s.out == nil || s.out.untouched()):
		f.stale = true
		if b.retries.connect {
			f.cause = byConnect
		}
	case f.err.Token == "connection_terminated" && s.req.replayable():
		f.stale = s.link.used.Load()
		if b.retries.reset {
			f.cause = byReset
		}
	}
	return f
}

// probeStream makes one request on a link of its own.
func (k *check) probeStream(ctx context.Context, by time.Time) error {
	ctx, cancel := context.WithDeadline(ctx, by)
	defer cancel()
	l, failed := k.endpoint.link(ctx, by, time.Until(by), nil)
	if failed != nil {
		return failed
	}
	defer l.client.Close()
	scheme := "http"
	if k.endpoint.target.tls {
		scheme = "https"
	}
	hr, err := requestOf([]byte("GET "+k.rules.Path+" HTTP/1.1\r\nHost: "+k.endpoint.target.header+
		"\r\nUser-Agent: gatehouse-health\r\nAccept: */*\r\n\r\n"), scheme)
	if err != nil {
		return err
	}
	res, err := l.client.RoundTrip(hr.WithContext(ctx))
	if err != nil {
		return explainStream(err, awaiting, k.endpoint.url)
	}
	defer res.Body.Close()
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("status %d", res.StatusCode)
	}
	return nil
}
