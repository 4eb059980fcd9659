package upstream

import (
	"io"
	"os"
	"runtime"
)

// turn is one exchange in which the request is written and its answer waited
// for in one step: first the socket is told that news are wanted, then the
// request is written, and only when news come is it read. A Read of net.Conn
// tries to read before it waits, and between a request and its answer there is
// nothing yet: that attempt would be one system call in five.
//
// What came between the last check of an idle connection and the turn is not
// news: should the backend have closed the connection just then, it refuses the
// request, and that is. Should it have closed its own half only, the next poll
// of the client finds out.
type turn struct {
	step func(fd uintptr) bool // made once, so that a turn does not allocate

	due     []byte // to be written; nil when it has been
	into    []byte // what is read into
	sent    int    // bytes of the request that were written
	failed  error  // of the write
	n       int    // bytes that were read
	readErr error
}

func (t *turn) begin(wire []byte) { t.due, t.sent, t.failed = wire, 0, nil }

// end returns how many bytes of the request were written; the error is the
// write's. answer is what came of waiting for the answer.
func (t *turn) end(answer error) (n int, err error) {
	if t.due != nil { // it was not come to
		t.due, t.failed = nil, answer
	}
	err, t.failed = t.failed, nil
	return t.sent, err
}

// takesTurns reports whether c can write and wait in one step.
func (c *conn) takesTurns() bool { return canTurn && c.raw != nil && c.gate == nil }

// receive reads once into p, after it has written the request that is due.
func (c *conn) receive(p []byte) (int, error) {
	t := &c.turn
	if t.due == nil {
		return c.nc.Read(p)
	}
	t.into, t.n, t.readErr = p, 0, nil
	// Let others come as far: requests that are written one right after the
	// other find the backends' end awake, and waking it costs as much as the
	// rest of the write.
	runtime.Gosched()
	err := c.raw.Read(t.step)
	t.into = nil
	switch {
	case t.due != nil && timedOut(err): // before it began: the caller moves the deadline
		return 0, err
	case t.due != nil: // the socket cannot be waited for: it is closed
		t.due, t.failed = nil, err
		return 0, err
	case t.failed != nil:
		return 0, t.failed
	case err != nil:
		return 0, err
	}
	return t.n, t.readErr
}

// step is called before the first wait, and after each.
func (c *conn) step(fd uintptr) (done bool) {
	t := &c.turn
	if t.due != nil {
		t.sent, t.failed = c.nc.Write(t.due)
		t.due = nil
		return t.failed != nil
	}
	n, again, err := receive(fd, t.into)
	switch {
	case again:
		return false
	case err != nil:
		t.readErr = os.NewSyscallError("read", err)
	case n == 0:
		t.readErr = io.EOF
	default:
		t.n = n
	}
	return true
}
