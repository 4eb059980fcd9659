//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// serve answers on handover.sock until ctx ends.
func (h *handover) serve(ctx context.Context) error {
	name, folder, err := socketName(h.folder)
	if err != nil {
		return err
	}
	defer folder.Close()
	// This process holds the folder: what is there was left by a crash.
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	only := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		// Linux gives the file the mode that the socket has when it is bound,
		// so that nobody else can connect in the moment before Chmod. Other
		// systems refuse this, and only have the folder's mode to rely on.
		return c.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), 0o600) })
	}}
	l, err := only.Listen(ctx, "unix", name)
	if err != nil {
		return err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(true)
	if err := os.Chmod(name, 0o600); err != nil {
		_ = l.Close() // the error says why
		return err
	}
	var answers sync.WaitGroup
	defer answers.Wait()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() }) // ends Accept
	defer stop()
	for {
		c, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil: // out of descriptors, say
			h.log.Warn("a process could not ask to take over", "error", err)
			_ = pause(ctx, time.Second) // Accept sees the end of ctx
		default:
			answers.Go(func() { h.answer(ctx, &wire{conn: c.(*net.UnixConn)}) })
		}
	}
}

// socketName returns a name for handover.sock that fits an address, which
// holds a hundred bytes or so. It is good while folder is open.
func socketName(data string) (name string, folder *os.File, err error) {
	const fits = 100
	if folder, err = os.Open(data); err != nil {
		return "", nil, err
	}
	if name = filepath.Join(data, handoverName); len(name) > fits {
		name = fmt.Sprintf("/proc/self/fd/%d/%s", folder.Fd(), handoverName) // Linux alone has this
	}
	return name, folder, nil
}

// answer speaks to one process that asks.
func (h *handover) answer(ctx context.Context, w *wire) {
	defer w.conn.Close()
	defer context.AfterFunc(ctx, func() { _ = w.conn.Close() })()
	if err := checkPeer(w.conn); err != nil {
		h.log.Warn("takeover refused", "error", err)
		return
	}
	m, files, err := w.receive(answerLimit)
	closeFiles(files) // nobody sends any here
	if err != nil || m.Kind != hello {
		return // a probe, or not one of us
	}
	switch {
	case m.Version != handoverVersion:
		w.refuse(fmt.Sprintf("it speaks version %d of the handover, not %d", handoverVersion, m.Version))
	case closed(h.ending):
		w.refuse("it is ending; start again when it has")
	case !h.busy.CompareAndSwap(false, true):
		w.refuse("another process is taking over already")
	default:
		if err := h.hand(w); err != nil {
			h.busy.Store(false)
			if ctx.Err() == nil {
				h.log.Warn("takeover did not come about; this process goes on", "process", m.Process, "error", err)
			}
			return
		}
		h.log.Info("handed over", "process", m.Process)
		close(h.taken)
	}
}

// hand offers the sockets. Without an error they are the other's.
func (h *handover) hand(w *wire) error {
	m := newMessage(offer)
	m.Sockets = h.sockets
	if err := w.send(m); err != nil {
		return err
	}
	m, files, err := w.receive(h.limit)
	closeFiles(files)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		w.refuse(fmt.Sprintf("the new process was not ready within %v", h.limit))
		return err
	}
	if err != nil || m.Kind != ready {
		return errors.Join(err, errors.New("the new process was not ready"))
	}
	// When this cannot be written the other has gone, and does not serve.
	return w.send(newMessage(yours))
}
