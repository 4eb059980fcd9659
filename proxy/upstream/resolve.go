package upstream

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Resolver finds the addresses of names. *net.Resolver is one. It is called by
// many goroutines at once; network is "ip".
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

const (
	// attemptLeast is the least time that one of several addresses is tried
	// for (RFC 8305, section 5: the delay between connection attempts).
	attemptLeast = 250 * time.Millisecond
	// avoidFor is how long an address that could not be connected to is tried
	// after the others.
	avoidFor = 10 * time.Second
	// lookupMost bounds a look-up in the background.
	lookupMost = 10 * time.Second
	// intervalLeast keeps one document from flooding the name servers of all.
	intervalLeast = time.Second
)

// name is an endpoint's host name and the addresses it has. They are looked up
// again at intervals, each time by a goroutine of the Client's, and kept for
// as long as look-ups fail. Safe for concurrent use.
type name struct {
	endpoint *endpoint
	log      *slog.Logger
	found    atomic.Pointer[[]place] // nil before the first answer; written under mu
	turn     atomic.Uint32           // of the next dial

	mu       sync.Mutex // guards the below
	interval time.Duration
	timer    *time.Timer        // begins the next look-up; nil before the first interval
	stop     context.CancelFunc // of a look-up in the background; nil while there is none
	stopped  bool               // there are no more in the background
	lookup   *lookup            // under way for those who dial; nil otherwise
	failing  bool               // the last look-up failed
}

// place is one address of a name.
type place struct {
	addr  netip.Addr
	avoid *atomic.Int64 // the instant until which others are tried before
}

// lookup is a look-up that several wait for. The fields are read after done.
type lookup struct {
	done chan struct{}
	err  error
	late bool // only the one who made it ran out of time
}

func newName(e *endpoint, log *slog.Logger) *name {
	n := &name{endpoint: e, log: log.With("endpoint", e.url)}
	n.turn.Store(rand.Uint32())
	return n
}

// every sets the time between two look-ups. The first comes at a random
// instant within it, so that those of many names spread; who dials before
// looks up at once.
func (n *name) every(interval time.Duration) {
	interval = max(interval, intervalLeast)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stopped || n.interval == interval {
		return
	}
	n.interval = interval
	if n.timer == nil {
		n.timer = time.AfterFunc(rand.N(interval), n.refresh)
		return
	}
	n.timer.Reset(rand.N(interval))
}

// retire ends what goes on in the background.
func (n *name) retire() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stopped = true
	if n.timer != nil {
		n.timer.Stop()
	}
	if n.stop != nil {
		n.stop()
	}
}

// refresh looks the name up in the background. The timer runs it.
func (n *name) refresh() {
	c := n.endpoint.client
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.checks.Add(1)
	c.mu.Unlock()
	defer c.checks.Done()

	n.mu.Lock()
	if n.stopped || n.stop != nil {
		n.mu.Unlock()
		return
	}
	ctx, stop := context.WithTimeout(context.Background(), lookupMost)
	n.stop = stop
	n.mu.Unlock()
	_ = n.resolve(ctx) // logged where it is news
	stop()
	n.mu.Lock()
	n.stop = nil
	if !n.stopped {
		n.timer.Reset(n.interval - n.interval/10 + rand.N(n.interval/5+1))
	}
	n.mu.Unlock()
}

// resolve looks the name up once and applies the answer.
func (n *name) resolve(ctx context.Context) error {
	host := n.endpoint.target.host
	addrs, err := n.endpoint.client.resolver.LookupNetIP(ctx, "ip", host)
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	addrs = slices.Compact(addrs)
	if err == nil && len(addrs) == 0 {
		err = errors.New("no addresses")
	}
	if _, ok := errors.AsType[*net.DNSError](err); err != nil && !ok {
		err = &net.DNSError{UnwrapErr: err, Err: err.Error(), Name: host, IsTimeout: timedOut(err)}
	}
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		return err // by retire: it says nothing of the name
	}
	n.mu.Lock()
	news := n.failing != (err != nil)
	n.failing = err != nil
	changed := err == nil && !slices.Equal(addrs, n.known())
	if changed {
		places := alternate(addrs)
		n.found.Store(&places)
		n.endpoint.confine(addrs)
		if n.endpoint.streams != nil {
			n.endpoint.streams.confine(addrs)
		}
	}
	n.mu.Unlock()
	switch {
	case news && err != nil:
		n.log.Warn("endpoint's name is not resolved", "error", err)
	case news:
		n.log.Info("endpoint's name is resolved again")
	}
	return err
}

// alternate puts the sorted addresses in an order where the families take
// turns while they last (RFC 8305, section 4), so that one that cannot be
// reached costs one attempt.
func alternate(addrs []netip.Addr) []place {
	six := slices.IndexFunc(addrs, netip.Addr.Is6)
	if six < 0 {
		six = len(addrs)
	}
	places := make([]place, 0, len(addrs))
	for i := range max(six, len(addrs)-six) {
		if i < len(addrs)-six {
			places = append(places, place{addrs[six+i], &atomic.Int64{}})
		}
		if i < six {
			places = append(places, place{addrs[i], &atomic.Int64{}})
		}
	}
	return places
}

// known returns the addresses, sorted. It allocates.
func (n *name) known() []netip.Addr {
	found := n.found.Load()
	if found == nil {
		return nil
	}
	addrs := make([]netip.Addr, len(*found))
	for i, p := range *found {
		addrs[i] = p.addr
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return addrs
}

// places returns what is known, or looks the name up for the first time,
// together with all others who dial. ctx has a deadline.
func (n *name) places(ctx context.Context) ([]place, error) {
	for {
		if found := n.found.Load(); found != nil {
			return *found, nil
		}
		n.mu.Lock()
		if n.found.Load() != nil { // the look-up has ended since
			n.mu.Unlock()
			continue
		}
		l := n.lookup
		first := l == nil
		if first {
			l = &lookup{done: make(chan struct{})}
			n.lookup = l
		}
		n.mu.Unlock()
		if first {
			l.err = n.resolve(ctx)
			l.late = ctx.Err() != nil
			n.mu.Lock()
			n.lookup = nil
			n.mu.Unlock()
			close(l.done)
		}
		select {
		case <-l.done:
		case <-ctx.Done():
			return nil, &net.DNSError{UnwrapErr: ctx.Err(), Err: ctx.Err().Error(), Name: n.endpoint.target.host, IsTimeout: timedOut(ctx.Err())}
		}
		if l.err != nil && (first || !l.late) {
			return nil, l.err
		}
	}
}

// dial connects to one of the name's addresses: the next in turn, and the
// others after it, each for a fair part of the time that is left. ctx has a
// deadline. The guard judges each address that is dialled, not the name.
func (n *name) dial(ctx context.Context) (net.Conn, error) {
	places, err := n.places(ctx)
	if err != nil {
		return nil, err
	}
	c := n.endpoint.client
	by, _ := ctx.Deadline()
	var first error
	for k, p := range inTurn(places, int(n.turn.Add(1)%uint32(len(places))), c.clock.now()) {
		left := time.Until(by)
		part := min(max(left/time.Duration(len(places)-k), attemptLeast), left)
		each, cancel := context.WithTimeout(ctx, part)
		nc, err := c.dial(each, "tcp", net.JoinHostPort(p.addr.String(), n.endpoint.target.port))
		cancel()
		if err == nil {
			p.avoid.Store(0)
			return nc, nil
		}
		if first == nil {
			first = err
		}
		if ctx.Err() != nil {
			break
		}
		p.avoid.Store(int64(c.clock.now() + avoidFor))
	}
	return nil, first
}

// inTurn returns the places from start around, those to avoid last.
func inTurn(places []place, start int, now time.Duration) []place {
	order := make([]place, 0, len(places))
	for _, avoided := range []bool{false, true} {
		for i := range places {
			p := places[(start+i)%len(places)]
			if (int64(now) < p.avoid.Load()) == avoided {
				order = append(order, p)
			}
		}
	}
	return order
}
