// Package http2 is the server's side of HTTP/2 on one connection: it reads
// the frames of a client, strictly, and gives each request to a handler of
// its own, which reads the body and writes the answer as a Stream.
//
// One goroutine reads, and never writes to the socket: a client that does not
// read cannot keep its own frames from being seen. What is to be written is
// gathered under the connection's lock, in the order in which it will be sent;
// whoever finds nobody writing writes all of it, outside the lock.
//
// What a client can make this side hold is bounded: by the flow-control
// windows for bodies, by Config for heads and streams, by a constant for
// control frames, and by allowances for what costs work and carries nothing.
//
// Sources: RFC 9113 (HTTP/2), RFC 7541 (HPACK), RFC 9218, 2.1 (no priorities).
package http2

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2/hpack"
)

// Config is what the connections of one gateway have in common. It is safe
// for concurrent use, and must neither be copied nor changed once in use.
type Config struct {
	// HeaderBytes is the largest header list, as RFC 9113, 6.5.2 counts it: 32
	// bytes for each field, and its name and value.
	HeaderBytes int
	// Streams is how many requests a connection may have at once. Those that
	// the client resets count until their handlers return; of those that ended
	// well, as many handlers again may still be at it.
	Streams int
	// Header is the time for the preface, for the client to acknowledge our
	// settings, and for each header block, from its first byte.
	Header time.Duration
	// Idle is the time without a request after which the connection ends, and
	// in which a body must go on or a client take some of an answer. A client
	// that is silent for half of it while it has requests is asked with PING.
	Idle time.Duration
	// StreamWindow is how much of a request body is taken before it is read,
	// in bytes; 0: 256 KiB.
	StreamWindow int
	// ConnWindow is that of all bodies of a connection; 0: 1 MiB. It is at
	// least 65,535.
	ConnWindow int

	streams sync.Pool             // of *Stream
	inputs  sync.Pool             // of *input
	outputs sync.Pool             // of *output
	blocks  sync.Pool             // of *block
	dated   atomic.Pointer[today] // the Date of this second; written by whoever finds it old
}

func (c *Config) streamWindow() int {
	if c.StreamWindow > 0 {
		return min(c.StreamWindow, maxWindow)
	}
	return 256 << 10
}

func (c *Config) connWindow() int {
	if c.ConnWindow > 0 {
		return min(max(c.ConnWindow, firstWindow), maxWindow)
	}
	return 1 << 20
}

// Conn is one client connection. Serve belongs to one goroutine; GoAway and
// Close may be called by any.
type Conn struct {
	nc     net.Conn
	cfg    *Config
	handle func(*Stream)
	began  time.Time
	work   chan *Stream   // to workers that wait; nil ends one
	wg     sync.WaitGroup // workers and flushers

	// Of the goroutine of Serve.
	in      *input        // what was read; nil while the connection rests
	r, w    int           // in.b[r:w] is read and not used yet
	one     [1]byte       // what a connection waits with that rests
	partial time.Duration // when the incomplete frame or header block began; 0: there is none
	pause   bool          // it is a DATA frame, which only has to go on
	heard   time.Duration // when something was last read
	wrote   time.Duration // when the socket last took something
	asked   bool          // whether the client is there, by PING; nothing was heard since
	moved   time.Duration // when DATA of any stream was last appended
	dec     *hpack.Decoder
	block   headerBlock

	mu      sync.Mutex // guards what follows
	broken  error      // the connection is of no use any more
	over    bool       // Serve returns: nothing more is written
	readBy  time.Duration
	greeted bool          // the client's settings have come
	acked   bool          // it has acknowledged ours
	pinged  time.Duration // when it was last asked whether it lives; 0: never

	streams map[uint32]*Stream // not closed yet
	last    uint32             // the highest stream of the client
	closed  memory
	open    int           // streams that count against Config.Streams
	running int           // handlers that have not returned
	rested  time.Duration // since when running is 0

	drain   drainState
	drainAt time.Duration // when it began
	final   uint32        // the last stream that is served, when drainFinal

	credit  int // bytes of DATA that the client may send
	used    int // that it sent and were read, and are not given back yet
	initial int // credit of a new stream

	window       int // bytes of DATA that may be sent
	theirInitial int // window of a new stream

	writer
	resets, voids allowance
	owed          int // frames that carry nothing that the client may send for what it was sent
}

// drainState is how far the parting with a client has come.
type drainState uint8

const (
	drainNone      drainState = iota
	drainAnnounced            // it knows that it shall open no more streams
	drainFinal                // it knows which is the last
)

// NewConn returns the HTTP side of a connection just accepted, whose preface
// is still to be read. Each request runs handle, which has a goroutine to
// itself, and must not use the Stream after it has returned. A panic in handle
// resets the stream and goes no further: handle recovers itself where somebody
// shall hear of it.
func NewConn(nc net.Conn, cfg *Config, handle func(*Stream)) *Conn {
	c := &Conn{
		nc: nc, cfg: cfg, handle: handle, began: time.Now(),
		work: make(chan *Stream), streams: make(map[uint32]*Stream),
		credit: cfg.connWindow(), initial: firstWindow,
		window: firstWindow, theirInitial: firstWindow,
	}
	c.dec = hpack.NewDecoder(defaultTableSize, c.emit)
	c.dec.SetMaxStringLength(c.maxBlock())
	c.enc.limit = defaultTableSize
	c.resets.limit, c.voids.limit = 10*max(cfg.Streams, 1), maxVoids
	b := c.output()
	const settings = 4
	b = appendFrame(b, settings*settingBytes, kindSettings, 0, 0)
	b = appendSetting(b, settingStreams, cfg.Streams)
	b = appendSetting(b, settingWindow, cfg.streamWindow())
	b = appendSetting(b, settingHeaderList, cfg.HeaderBytes)
	b = appendSetting(b, settingNoPriorities, 1)
	if more := c.credit - firstWindow; more > 0 {
		b = appendWindowUpdate(b, 0, more)
	}
	c.out.b = b
	return c
}

// now is the time since the connection began. It is never 0.
func (c *Conn) now() time.Duration { return time.Since(c.began) + 1 }

// Why Serve ends without an error.
var (
	errDrained = errors.New("the connection has served its last stream")
	errIdle    = errors.New("the connection was idle")
)

// Serve serves the connection until it ends, and returns when no handler runs
// any more. It does not close the socket; a client that is still sending may
// miss the last frames unless it is given time to read them.
//
// The error is nil when the client left between frames, was idle, or has been
// sent away by GoAway; an *Error where this side gave up on the client, which
// has been told; and else what went wrong with the socket.
func (c *Conn) Serve() error {
	c.mu.Lock()
	c.kick()
	c.mu.Unlock()
	c.in, c.heard = c.input(), c.now()
	err := c.readPreface()
	var f frame
	for err == nil {
		if err = c.next(&f); err == nil {
			if e := c.take(&f); e != nil {
				err = e
			}
		}
	}
	c.end(err)
	switch {
	case errors.Is(err, errDrained), errors.Is(err, errIdle), err == io.EOF: //nolint:errorlint // as next returns it
		return nil
	}
	return err
}

// lastWords is how long the client has to take what is still to be sent when
// the connection ends.
const lastWords = 5 * time.Second

func (c *Conn) end(err error) {
	code, reason, say := NoError, "", errors.Is(err, errIdle)
	if e, ok := errors.AsType[*Error](err); ok {
		code, reason, say = e.Code, e.Reason, true
	}
	c.mu.Lock()
	if say {
		last := c.last
		if c.drain == drainFinal {
			last = c.final // it may not grow
		}
		c.out.b = appendGoAway(c.output(), last, code, reason)
	} else if !errors.Is(err, errDrained) {
		c.spoil(err)
	}
	c.kick()
	c.over = true
	c.writeBy = c.now()
	if c.broken == nil {
		c.writeBy += min(lastWords, c.cfg.Idle)
	}
	_ = c.nc.SetWriteDeadline(c.began.Add(c.writeBy)) // a socket that fails needs none
	for _, s := range c.streams {
		c.fail(s, gone(err))
		c.forget(s, closedQuietly)
	}
	c.mu.Unlock()
	close(c.work)
	c.wg.Wait()
	c.release()
}

// Close closes the socket, which ends Serve.
func (c *Conn) Close() error { return c.nc.Close() }

// GoAway sends the client elsewhere (RFC 9113, 6.8): it is asked to open no
// more streams, and a round trip later, or after a second, it is told which
// was the last. Serve returns when the streams under way have ended.
func (c *Conn) GoAway() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.drain != drainNone || c.over {
		return
	}
	c.drain, c.drainAt = drainAnnounced, c.now()
	b := appendGoAway(c.output(), maxID, NoError, "")
	c.out.b = appendPing(b, 0, []byte(pingDrain))
	c.kick()
	c.wake()
}

// finalGoAway names the last stream. The caller holds mu.
func (c *Conn) finalGoAway() {
	c.drain, c.final = drainFinal, c.last
	c.out.b = appendGoAway(c.output(), c.last, NoError, "")
	c.kick()
}

// What our pings carry.
const (
	pingDrain = "drain..."
	pingAlive = "alive..."
)

// wake makes the reader look at its state again. The caller holds mu.
func (c *Conn) wake() {
	c.readBy = 0
	_ = c.nc.SetReadDeadline(time.Unix(1, 0)) // a socket that fails wakes it too
}

// spoil notes that the connection is of no use any more. The caller holds mu.
func (c *Conn) spoil(err error) {
	if c.broken == nil {
		c.broken = err
		c.wake()
	}
}

// dispatch runs the handler of a new stream. The caller holds mu.
func (c *Conn) dispatch(s *Stream) {
	select {
	case c.work <- s:
	default:
		c.wg.Add(1)
		go c.worker(s)
	}
}

// worker runs handlers, one after the other. It keeps its stack, which has
// grown to what a request needs.
func (c *Conn) worker(s *Stream) {
	defer c.wg.Done()
	for s != nil {
		c.run(s)
		s = <-c.work
	}
}

// rest lets go of what a connection does not need while nothing happens. No
// header block is under way.
func (c *Conn) rest() {
	c.cfg.inputs.Put(c.in)
	c.in, c.r, c.w = nil, 0, 0
	// The decoder holds on to what it read last: let that be something small.
	const methodGET = 0x82
	c.one[0] = methodGET
	c.dec.SetEmitEnabled(false)
	_, _ = c.dec.Write(c.one[:])
	_ = c.dec.Close()
	c.dec.SetEmitEnabled(true)
	for {
		select {
		case c.work <- nil:
		default:
			return
		}
	}
}

func (c *Conn) release() {
	if c.in != nil {
		c.cfg.inputs.Put(c.in)
		c.in = nil
	}
}
