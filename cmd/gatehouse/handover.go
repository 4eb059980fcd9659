package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"time"
)

// A process that serves hands its listening sockets to a new one through
// handover.sock in its data folder. There is one JSON message in each line:
//
//	new: hello   asks for the sockets
//	old: offer   names them; the descriptors come with the line
//	new: ready   everything is built
//	old: yours   the old process stops accepting, and drains
//
// In place of offer and yours there may be refused, with the reason.
//
// The new process accepts nothing before yours, and after it the old one can
// only leave. So what goes wrong before costs no request: the old process has
// never stopped serving. Both hold the same sockets of the kernel, whose queue
// keeps the connections that come in between.
type message struct {
	Kind    string   `json:"kind"`
	Version int      `json:"version"` // of this protocol
	Process int      `json:"process"` // id of the sender
	Sockets []socket `json:"sockets,omitempty"`
	Reason  string   `json:"reason,omitempty"`
}

const (
	handoverVersion = 1
	handoverName    = "handover.sock"

	hello   = "hello"
	offer   = "offer"
	ready   = "ready"
	yours   = "yours"
	refused = "refused"

	readyLimit  = time.Minute      // from offer to ready
	answerLimit = 10 * time.Second // for whatever is answered at once
	claimLimit  = 5 * time.Second  // for a process that begins or ends to free or serve the folder
	claimPause  = 10 * time.Millisecond
)

func newMessage(kind string) message {
	return message{Kind: kind, Version: handoverVersion, Process: os.Getpid()}
}

// socket is a listening socket and what it is for.
type socket struct {
	Use      string `json:"use"`     // such as "data plane"
	Address  string `json:"address"` // as configured
	Bound    string `json:"bound"`   // as the kernel says it
	listener net.Listener
}

// sockets are the listening sockets of a process. They belong to the
// goroutine that assembles it.
type sockets struct {
	serving   []socket
	inherited []socket // not asked for yet
}

// listen returns the inherited socket of the same use and address, or opens
// one.
func (s *sockets) listen(use, address string) (net.Listener, error) {
	i := slices.IndexFunc(s.inherited, func(o socket) bool {
		return o.Use == use && (o.Address == address || o.Bound == address)
	})
	if i >= 0 {
		o := s.inherited[i]
		o.Address = address
		s.inherited = slices.Delete(s.inherited, i, i+1)
		s.serving = append(s.serving, o)
		return o.listener, nil
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			err = fmt.Errorf("%w\n  hint: another process listens there: choose another address, for the data plane with --listen, for the control API with --control", err)
		}
		return nil, fmt.Errorf("%s: %w", use, err)
	}
	s.serving = append(s.serving, socket{use, address, l.Addr().String(), l})
	return l, nil
}

// decline closes what was inherited and not asked for.
func (s *sockets) decline() {
	for _, o := range s.inherited {
		_ = o.listener.Close() // it is another's
	}
	s.inherited = nil
}

// close closes every socket.
func (s *sockets) close() {
	s.decline()
	for _, o := range s.serving {
		_ = o.listener.Close() // it never served
	}
}

// handover hands the sockets of this process to another that asks for them.
type handover struct {
	folder  string
	sockets []socket
	limit   time.Duration // from offer to ready
	log     *slog.Logger
	ending  <-chan struct{} // closed when this process ends by itself
	busy    atomic.Bool     // a process is taking over, or has; owned by the call of answer that set it
	taken   chan struct{}   // closed when another process has taken over
}

// run answers those who ask until ctx ends. Without it this process serves as
// well, so that what keeps it from running is only logged.
func (h *handover) run(ctx context.Context) {
	if err := h.serve(ctx); err != nil {
		h.log.Warn("no process can take over from this one", "error", err)
	}
}

var (
	errHeld  = errors.New("is in use by another gatehouse: give each its own --data, or take over with --takeover")
	errGone  = errors.New("the process before has gone")
	errEnded = errors.New("ended by a signal before it served")
)

// claim takes the data folder. With takeover set, and the folder in use, it
// returns the process that uses it in place of the lock.
func claim(ctx context.Context, folder string, takeover bool) (*os.File, *predecessor, error) {
	limit := time.Now().Add(claimLimit)
	for {
		lock, err := lockFolder(folder)
		if err == nil || !takeover || !errors.Is(err, errHeld) {
			return lock, nil, err
		}
		p, err := askPredecessor(ctx, folder)
		// One that begins or ends has the folder and does not listen.
		if err == nil || !errors.Is(err, errSilent) || time.Now().After(limit) {
			if err != nil {
				err = fmt.Errorf("take over data folder %s: %w", folder, err)
			}
			return nil, p, err
		}
		if pause(ctx, claimPause) != nil {
			return nil, nil, fmt.Errorf("take over data folder %s: %w", folder, errEnded)
		}
	}
}

// awaitLock takes the data folder as soon as it is free, until ctx ends.
func awaitLock(ctx context.Context, folder string) (*os.File, error) {
	for {
		lock, err := lockFolder(folder)
		if err == nil || !errors.Is(err, errHeld) {
			return lock, err
		}
		if pause(ctx, claimPause) != nil {
			return nil, err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
