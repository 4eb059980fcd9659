package upstream

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync/atomic"
	"time"
)

// A large body is copied by the caller's goroutine, which alone may touch the
// client's body, while another waits for the answer. The answer is noticed as
// soon as the backend makes a write wait, or else between two reads of the
// client's body. An answer of 400 or more,
// or one that ends the connection, stops the copying: the backend has decided.
// After any other early answer the copying goes on, for a backend may answer
// as it reads, until it is done or stalls: then the backend waits for its
// answer to be read, and the answer goes on with the request cut short. It is
// not passed on while the copying goes on: what is full duplex needs HTTP/2.

// stall is how long a backend that has begun its answer may leave the request
// body unread.
const stall = 10 * time.Second

const (
	unanswered = iota
	answered   // go on sending
	decided    // stop sending
)

// watcher waits for the answer on behalf of a conn that is sending.
type watcher struct {
	run      func()    // made once, so that starting it does not allocate
	head     *head     // owned by run until it sends on done
	body     io.Closer // of the request, closed to interrupt a read; nil: it cannot be
	done     chan error
	patience time.Duration // stall, or the idle timeout where that is shorter
	ask      *time.Timer   // nil before the first request that has Gone
	verdict  atomic.Int32  // set by run before it moves the write deadline
}

var (
	errDecided = errors.New("answered before the end of the request")
	longAgo    = time.Unix(1, 0)
)

// watch starts reading the answer into h.
func (c *conn) watch(h *head, idle time.Duration) error {
	w := &c.watcher
	if w.run == nil {
		w.done = make(chan error, 1)
		w.run = func() {
			defer func() {
				if p := recover(); p != nil { // one request fails, not the process
					w.verdict.Store(decided)
					_ = c.nc.SetWriteDeadline(longAgo)
					w.done <- fmt.Errorf("panic while reading an answer: %v", p)
				}
			}()
			err := c.readHead(w.head, never, 0)
			// A deadline cannot be set on a closed connection alone, and there
			// nothing waits.
			if err == nil && w.head.status < 400 && !w.head.close {
				w.verdict.Store(answered)
				_ = c.nc.SetWriteDeadline(time.Now().Add(w.patience))
			} else {
				w.verdict.Store(decided)
				_ = c.nc.SetWriteDeadline(longAgo)
				if w.body != nil && err == nil {
					_ = w.body.Close() // the client may be slow to send what nobody wants
				}
			}
			w.done <- err
		}
	}
	w.head, w.patience = h, min(stall, idle)
	w.verdict.Store(unanswered)
	// How long the client takes is no measure of the backend.
	if err := c.nc.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	go w.run()
	return nil
}

// send copies the request's body behind the head and reads the answer's head
// into h. It reports whether the whole request was sent and, with an error,
// during what phase it came up; the client's own failure is an *Error.
func (c *conn) send(req *Request, h *head, b *Backend) (whole bool, during phase, err error) {
	c.watcher.body, _ = req.Body.(io.Closer)
	if err := c.watch(h, b.idle); err != nil {
		return false, writing, err
	}
	err = c.copyBody(req, b.idle)
	early := c.watcher.verdict.Load() != unanswered
	c.readBy = c.clock.now()
	e, client := errors.AsType[*Error](err)
	failed := client && e.RequestBody && c.watcher.verdict.Load() != decided
	switch {
	case err == nil:
		c.readBy += b.firstByte
	case failed, timedOut(err):
	default:
		c.readBy += parting
	}
	_ = c.nc.SetReadDeadline(c.clock.at(c.readBy)) // as in watch
	answer := c.answer(req)
	c.writeBy = 0
	switch {
	case failed:
		// The client is at fault, and is told so: what the backend made of
		// half a request is no answer.
		return false, writing, err
	case answer == nil:
		return err == nil, awaiting, nil
	case err == nil, early:
		return false, awaiting, answer
	default:
		return false, writing, err
	}
}

// answer waits for the watcher to end.
func (c *conn) answer(req *Request) error {
	w := &c.watcher
	if req.Gone == nil {
		return <-w.done
	}
	if w.ask == nil {
		w.ask = time.NewTimer(poll)
	} else {
		w.ask.Reset(poll)
	}
	defer w.ask.Stop()
	for {
		select {
		case err := <-w.done:
			return err
		case <-w.ask.C:
		}
		if req.Gone() {
			_ = c.nc.SetReadDeadline(longAgo)
			if err := <-w.done; err != nil {
				return errGone
			}
			return nil
		}
		w.ask.Reset(poll)
	}
}

// copyBody writes the body to the backend, each piece in one write.
func (c *conn) copyBody(req *Request, idle time.Duration) error {
	const (
		lead = len("7fff\r\n")
		tail = len("\r\n0\r\n\r\n")
		lazy = 100 // reads of nothing in a row
	)
	buf := c.endpoint.client.buffers.take(bufferSizes[1])
	defer c.endpoint.client.buffers.put(buf)
	chunked, left := req.BodyLength < 0, req.BodyLength
	for empty := 0; chunked || left > 0; {
		room := buf.b[lead : len(buf.b)-tail]
		if !chunked && left < int64(len(room)) {
			room = room[:left]
		}
		n, err := req.Body.Read(room)
		left -= int64(n)
		piece := room[:n]
		if chunked {
			piece = frame(buf.b, lead, n, err == io.EOF)
			if err == io.EOF {
				// More than there is room for behind the piece moves it.
				if req.Trailer != nil {
					piece = req.Trailer(piece)
				}
				piece = append(piece, "\r\n"...)
			}
		}
		if len(piece) > 0 {
			if err := c.push(piece, idle); err != nil {
				return err
			}
		}
		switch {
		case err == io.EOF && chunked:
			return nil
		case err == io.EOF && left > 0:
			return bodyError(io.ErrUnexpectedEOF)
		case err != nil && err != io.EOF:
			return bodyError(err)
		case n > 0:
			empty = 0
		default:
			if empty++; empty == lazy {
				return bodyError(io.ErrNoProgress)
			}
		}
	}
	return nil
}

// frame makes a chunk of the n bytes at b[lead:], and the last chunk behind it
// when the body ends there, without the trailer section and the empty line.
// lead is room for the chunk's size.
func frame(b []byte, lead, n int, last bool) []byte {
	start, end := lead, lead+n
	if n > 0 {
		var digits [8]byte
		size := append(strconv.AppendInt(digits[:0], int64(n), 16), "\r\n"...)
		start -= len(size)
		copy(b[start:], size)
		end += copy(b[end:], "\r\n")
	}
	if last {
		end += copy(b[end:], "0\r\n")
	}
	return b[start:end]
}

// push writes a piece of the body unless the backend has decided.
func (c *conn) push(p []byte, idle time.Duration) error {
	w := &c.watcher
	if w.verdict.Load() == answered {
		c.writeBy, idle = 0, w.patience
	}
	if err := c.arm(c.clock.now(), idle); err != nil {
		return err
	}
	// The watcher gives its verdict and then moves the deadline. If there is
	// none yet, that comes after arm and cuts the write short.
	if w.verdict.Load() == decided {
		return errDecided
	}
	_, err := c.nc.Write(p)
	return err
}
