package upstream

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// streams is the HTTP/2 connections to one endpoint. A request goes to the
// oldest that takes it, so that few are open. The bounds come with each call,
// as for a pool.
type streams struct {
	clock clock
	wake  chan struct{} // one token: a connection may take more than before

	mu      sync.Mutex // guards all below
	links   []*link    // open
	dialing int        // links to come
	waiting []*petition
	places  []netip.Addr // of links that are kept; nil: all
	retired bool         // links end with their last request
}

func newStreams(c clock) *streams { return &streams{clock: c, wake: make(chan struct{}, 1)} }

// petition is a request in the queue. It gets a link that is reserved for it,
// or nil for the right to dial one, or why the dial that it waited for failed.
type petition struct {
	got   chan *link
	fail  *Error // set before got is closed
	limit int
}

// hopeful is how many requests wait for one dial, rather than dial themselves.
const hopeful = 100

// take returns a link that is reserved for one request, or nil for the right
// to dial one, which ends in join or vacate. fresh asks for that right. Any
// link ends in release.
func (s *streams) take(limit, queue int, fresh bool, by time.Duration) (*link, *Error) {
	s.mu.Lock()
	spent := s.sift()
	var l *link
	if !fresh || len(s.links)+s.dialing >= limit {
		l = s.reserve()
	}
	dial := l == nil && len(s.links)+s.dialing < limit && (fresh || s.dialing*hopeful <= len(s.waiting))
	if dial {
		s.dialing++
	}
	if l != nil || dial || len(s.waiting) >= queue {
		s.mu.Unlock()
		end(spent)
		if l == nil && !dial {
			return nil, explain(errQueue, connecting, "")
		}
		return l, nil
	}
	w := &petition{got: make(chan *link, 1), limit: limit}
	s.waiting = append(s.waiting, w)
	s.mu.Unlock()
	end(spent)
	return s.wait(w, by)
}

func (s *streams) wait(w *petition, by time.Duration) (*link, *Error) {
	timeout := time.NewTimer(by - s.clock.now())
	defer timeout.Stop()
	for {
		select {
		case l, ok := <-w.got:
			return w.outcome(l, ok)
		case <-s.wake:
			s.mu.Lock()
			s.grant()
			s.mu.Unlock()
		case <-timeout.C:
			s.mu.Lock()
			if i := slices.Index(s.waiting, w); i >= 0 {
				s.waiting = slices.Delete(s.waiting, i, i+1)
				s.mu.Unlock()
				return nil, explain(errBusy, connecting, "")
			}
			s.mu.Unlock()
			l, ok := <-w.got
			return w.outcome(l, ok)
		}
	}
}

func (w *petition) outcome(l *link, ok bool) (*link, *Error) {
	if !ok {
		return nil, w.fail
	}
	return l, nil
}

// grant serves those who wait. The caller holds mu.
func (s *streams) grant() {
	for len(s.waiting) > 0 {
		w := s.waiting[0]
		l := s.reserve()
		if l == nil {
			if s.dialing > 0 || len(s.links) >= w.limit {
				return
			}
			s.dialing++
		}
		s.waiting = slices.Delete(s.waiting, 0, 1)
		w.got <- l
	}
}

// reserve returns a link with room for a request. The caller holds mu.
func (s *streams) reserve() *link {
	for _, l := range s.links {
		if !l.leaves && l.client.Err() == nil && l.client.Reserve() == nil {
			l.using++
			return l
		}
	}
	return nil
}

// sift takes out the links that are of no more use, to be ended. The caller
// holds mu.
func (s *streams) sift() (spent []*link) {
	s.links = slices.DeleteFunc(s.links, func(l *link) bool {
		if !l.spent() {
			return false
		}
		spent = append(spent, l)
		return true
	})
	return spent
}

// end closes links. The caller does not hold mu: their closing takes it.
func end(links []*link) {
	for _, l := range links {
		l.client.Close()
	}
}

// join takes in a link just dialled, with a reservation for its dialler.
func (s *streams) join(l *link) {
	l.client.SetStateHook(s.changed)
	s.mu.Lock()
	s.dialing--
	s.links = append(s.links, l)
	l.leaves = s.displaced(l)
	_ = l.client.Reserve() // if it has ended already, the request finds out
	l.using++
	s.grant()
	s.mu.Unlock()
	if l.client.Err() != nil {
		s.lost(l)
	}
}

// changed is called at any time, also by who holds mu.
func (s *streams) changed(*http.ClientConn) {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// vacate gives back the right to dial. Those who waited for this dial share
// its failure, unless there are links whose streams may yet end.
func (s *streams) vacate(failed *Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dialing--
	if len(s.links)+s.dialing > 0 {
		s.grant()
		return
	}
	for _, w := range s.waiting {
		w.fail = failed
		close(w.got)
	}
	s.waiting = nil
}

// release ends one request's use of l.
func (s *streams) release(l *link) {
	s.mu.Lock()
	l.using--
	over := l.using == 0 && (l.leaves || l.client.Err() != nil)
	if !over {
		s.grant()
	}
	s.mu.Unlock()
	if over {
		l.client.Close()
	}
}

// lost takes out a link that was closed.
func (s *streams) lost(l *link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.links, l); i >= 0 {
		s.links = slices.Delete(s.links, i, i+1)
	}
	s.grant()
}

// retire ends links that have no request, now and from now on.
func (s *streams) retire() {
	s.mu.Lock()
	s.retired = true
	for _, l := range s.links {
		l.leaves = true
	}
	spent := s.sift()
	s.mu.Unlock()
	end(spent)
}

// confine ends the links to other places than these, now or with their last
// request.
func (s *streams) confine(places []netip.Addr) {
	s.mu.Lock()
	s.places = places
	for _, l := range s.links {
		l.leaves = s.displaced(l)
	}
	spent := s.sift()
	s.mu.Unlock()
	end(spent)
}

// displaced reports whether l leads to a place that is not kept. The caller
// holds mu.
func (s *streams) displaced(l *link) bool {
	tcp, known := l.RemoteAddr().(*net.TCPAddr)
	return s.retired || s.places != nil && known && !slices.Contains(s.places, tcp.AddrPort().Addr().Unmap())
}

// abort breaks all links.
func (s *streams) abort() {
	s.mu.Lock()
	all := slices.Clone(s.links)
	s.mu.Unlock()
	end(all)
}

// count returns the links, those of them without requests, and the requests
// that wait for one.
func (s *streams) count() (open, idle, waiting int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.links {
		if l.using == 0 {
			idle++
		}
	}
	return len(s.links), idle, len(s.waiting)
}

// empty reports whether there is no link, nor one being dialled.
func (s *streams) empty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.links)+s.dialing == 0
}

// link takes a link to e, or dials one.
func (b *Backend) link(e *endpoint, fresh bool, resp *Response) (*link, *Error) {
	start := b.client.clock.now()
	by := start + b.connect
	l, failed := e.streams.take(b.limit, b.waiting, fresh, by)
	resp.Dialed = l == nil && failed == nil
	if failed != nil {
		return nil, &Error{Code: failed.Code, Token: failed.Token, Endpoint: e.url, Err: failed.Err}
	}
	if l == nil {
		e.dials.Add(1)
		b.client.dials.Add(1)
		if l, failed = e.link(context.Background(), b.client.clock.at(by), b.idle, e.streams.lost); failed != nil {
			e.streams.vacate(failed)
			return nil, failed
		}
		e.streams.join(l)
	}
	resp.Connect = b.client.clock.now() - start
	return l, nil
}

// link dials a link before the instant by.
func (e *endpoint) link(ctx context.Context, by time.Time, idle time.Duration, gone func(*link)) (*link, *Error) {
	ctx, cancel := context.WithDeadline(ctx, by)
	defer cancel()
	c, failed := e.dial(ctx, by)
	if failed != nil {
		return nil, failed
	}
	l, err := newLink(ctx, c, idle, gone)
	if err != nil {
		during := awaiting
		if timedOut(err) {
			during = connecting
		}
		return nil, explain(err, during, e.url)
	}
	return l, nil
}
