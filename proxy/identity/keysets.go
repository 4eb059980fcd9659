package identity

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

const (
	fetchTimeout = 10 * time.Second
	fetchers     = 64      // fetches at once
	maxBody      = 1 << 20 // bytes of a key set, after decompression
	// A key set is fetched again after 80 % of its max-age, which is taken as
	// at least minAge and at most maxAge.
	minAge     = 5 * time.Minute
	maxAge     = 24 * time.Hour
	defaultAge = time.Hour
	// A fetch that failed is tried again after retryFirst, then twice that, and
	// so on up to retryMax.
	retryFirst = time.Second
	retryMax   = 5 * time.Minute
	// A kid that is not known leads to at most one fetch in unknownEvery, which
	// at most unknownWaiters requests await for unknownWait.
	unknownEvery   = time.Minute
	unknownWait    = 100 * time.Millisecond
	unknownWaiters = 64
)

// KeySets fetches JSON Web Key Sets by URL in the background and keeps them
// fresh while a verifier needs them. Verifiers that name one URL share it.
// Nothing here makes a request wait but for unknownWait. It is safe for
// concurrent use.
//
// A fetch that fails leaves the keys at hand in force. Redirects are not
// followed. Which addresses may be dialled is the transport's concern.
type KeySets struct {
	client *http.Client
	report func(url string, err error)
	ctx    context.Context // of all fetches; ended by Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // the workers

	mu      sync.Mutex // guards what follows and the like part of each source
	closed  bool
	sources map[string]*source
	queue   []*source
	workers int
}

// source is one URL and its keys.
type source struct {
	url     string
	name    string                 // of the URL, for the operator
	keys    atomic.Pointer[keySet] // nil until the first fetch succeeded; written by the one fetch in flight
	unknown *rate.Limiter          // fetches for the sake of an unknown kid
	waiting atomic.Int32           // requests that wait in refetch

	// Guarded by KeySets.mu.
	refs     int           // verifiers; at zero the source is forgotten
	timer    *time.Timer   // of the next fetch; nil before the first
	done     chan struct{} // closed when the fetch that is queued or in flight ends; nil when there is none
	failures int           // in a row
}

// NewKeySets makes an empty collection. transport carries the requests; nil
// stands for one that dials any address without proxy. report, unless nil, is
// told the outcome of each fetch, nil for success, and the URL without what may
// be secret of it, user information and the query; it is called from several
// goroutines and must not block. The caller must Close the collection.
func NewKeySets(transport http.RoundTripper, report func(url string, err error)) *KeySets {
	if transport == nil {
		transport = &http.Transport{DisableKeepAlives: true}
	}
	if report == nil {
		report = func(string, error) {}
	}
	k := &KeySets{
		client: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		report:  report,
		sources: map[string]*source{},
	}
	k.ctx, k.cancel = context.WithCancel(context.Background())
	return k
}

// Close ends every fetch and waits for the goroutines. The keys at hand stay
// in force.
func (k *KeySets) Close() {
	k.mu.Lock()
	k.closed = true
	for _, s := range k.sources {
		if s.timer != nil {
			s.timer.Stop()
		}
	}
	k.mu.Unlock()
	k.cancel()
	k.wg.Wait()
	k.client.CloseIdleConnections()
}

// acquire returns the source of a URL and begins to fetch it if it is new.
func (k *KeySets) acquire(url string) *source {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.sources[url]
	if s == nil {
		s = &source{url: url, name: redacted(url), unknown: rate.NewLimiter(rate.Every(unknownEvery), 1)}
		k.sources[url] = s
		k.enqueue(s)
	}
	s.refs++
	return s
}

// Warm waits until every source has been fetched once, or has failed to be,
// or ctx ends.
func (k *KeySets) Warm(ctx context.Context) {
	k.mu.Lock()
	var pending []chan struct{}
	for _, s := range k.sources {
		if s.done != nil && s.keys.Load() == nil {
			pending = append(pending, s.done)
		}
	}
	k.mu.Unlock()
	for _, done := range pending {
		select {
		case <-done:
		case <-ctx.Done():
			return
		}
	}
}

// retain takes one more hold of s; false when it was forgotten meanwhile.
func (k *KeySets) retain(s *source) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if s.refs == 0 {
		return false
	}
	s.refs++
	return true
}

func (k *KeySets) release(s *source) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if s.refs--; s.refs > 0 {
		return
	}
	delete(k.sources, s.url)
	if s.timer != nil {
		s.timer.Stop()
	}
}

// refetch asks for a fetch because of an unknown kid and awaits it within
// bounds. It reports whether there may be new keys.
func (k *KeySets) refetch(s *source, now time.Time) bool {
	k.mu.Lock()
	if s.done == nil && !k.closed && s.refs > 0 && s.unknown.AllowN(now, 1) {
		k.enqueue(s)
	}
	done := s.done
	k.mu.Unlock()
	if done == nil {
		return false
	}
	defer s.waiting.Add(-1)
	if s.waiting.Add(1) > unknownWaiters {
		return false
	}
	limit := time.NewTimer(unknownWait)
	defer limit.Stop()
	select {
	case <-done:
		return true
	case <-limit.C:
		return false
	}
}

// enqueue gives s to a worker; k.mu is held.
func (k *KeySets) enqueue(s *source) {
	if k.closed || s.done != nil {
		return
	}
	s.done = make(chan struct{})
	k.queue = append(k.queue, s)
	if k.workers < fetchers {
		k.workers++
		k.wg.Go(k.work)
	}
}

// work fetches what is queued and returns when nothing is.
func (k *KeySets) work() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for len(k.queue) > 0 && !k.closed {
		s := k.queue[0]
		k.queue = k.queue[1:]
		if s.refs == 0 {
			k.finish(s)
			continue
		}
		k.mu.Unlock()
		age, err := k.fetch(s)
		k.report(s.name, err)
		k.mu.Lock()
		k.finish(s)
		if err != nil {
			s.failures++
			age = min(retryFirst<<min(s.failures-1, 16), retryMax)
		} else {
			s.failures = 0
			age = age * 8 / 10
		}
		k.schedule(s, age)
	}
	k.workers--
}

func (k *KeySets) finish(s *source) {
	close(s.done)
	s.done = nil
}

// schedule plans the next fetch; k.mu is held. Up to a tenth is taken off, so
// that sources made at once do not stay in step.
func (k *KeySets) schedule(s *source, after time.Duration) {
	if k.closed || s.refs == 0 {
		return
	}
	after -= rand.N(after / 10)
	if s.timer != nil {
		s.timer.Reset(after)
		return
	}
	s.timer = time.AfterFunc(after, func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if s.refs > 0 {
			k.enqueue(s)
		}
	})
}

// fetch gets the set once and returns how long it may be kept.
func (k *KeySets) fetch(s *source) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(k.ctx, fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	req.Header.Set("User-Agent", "gatehouse")
	res, err := k.client.Do(req)
	if err != nil {
		return 0, fmt.Errorf("fetch %s: %w", s.name, bare(err))
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("fetch %s: status %d", s.name, res.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	if err != nil {
		return 0, fmt.Errorf("fetch %s: %w", s.name, err)
	}
	if len(text) > maxBody {
		return 0, fmt.Errorf("fetch %s: more than %d bytes", s.name, maxBody)
	}
	set, _, err := parseKeySet(text)
	if err != nil {
		return 0, fmt.Errorf("fetch %s: %w", s.name, err)
	}
	set.succeed(s.keys.Load())
	s.keys.Store(set)
	return freshness(res.Header.Get("Cache-Control")), nil
}

// redacted is a URL without user information, query and fragment.
func redacted(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "a malformed URL"
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
}

// bare takes the URL off an error of http.Client.
func bare(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// freshness is the max-age of a Cache-Control field within bounds.
func freshness(field string) time.Duration {
	for directive := range strings.SplitSeq(strings.ToLower(field), ",") {
		directive = strings.TrimSpace(directive)
		if directive == "no-store" || directive == "no-cache" {
			return minAge
		}
		if digits, ok := strings.CutPrefix(directive, "max-age="); ok {
			if n, err := strconv.ParseInt(digits, 10, 32); err == nil {
				return min(max(time.Duration(n)*time.Second, minAge), maxAge)
			}
		}
	}
	return defaultAge
}
