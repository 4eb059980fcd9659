//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// errSilent says that nothing listens on handover.sock.
var errSilent = errors.New("the process that uses it does not hand over")

// predecessor is the process that serves, to the one that takes over from it.
type predecessor struct {
	wire
	process int
	sockets []socket      // received; they are the caller's to close
	limit   time.Duration // for an answer
}

// askPredecessor asks the process that uses the data folder for its sockets.
func askPredecessor(ctx context.Context, data string) (*predecessor, error) {
	name, folder, err := socketName(data)
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errSilent, err)
	}
	p := &predecessor{wire: wire{conn: c.(*net.UnixConn)}, limit: answerLimit}
	err = checkPeer(p.conn)
	if err == nil {
		err = p.ask(ctx)
	}
	if err != nil {
		_ = c.Close() // the error says why
		return nil, err
	}
	return p, nil
}

func (p *predecessor) ask(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { _ = p.conn.SetReadDeadline(time.Unix(1, 0)) })() // ends receive
	if err := p.send(newMessage(hello)); err != nil {
		return fmt.Errorf("%w: %w", errSilent, err)
	}
	m, files, err := p.receive(p.limit)
	switch {
	case ctx.Err() != nil:
		err = errEnded
	case errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET): // it ended meanwhile
		err = fmt.Errorf("%w: %w", errSilent, err)
	case err != nil:
		err = fmt.Errorf("the process that uses it does not answer: %w", err)
	case m.Kind == refused:
		err = fmt.Errorf("process %d refuses: %s", m.Process, m.Reason)
	case m.Kind != offer || m.Version != handoverVersion || len(m.Sockets) != len(files):
		err = fmt.Errorf("process %d offers %d sockets and sends %d, in version %d of the handover", m.Process, len(m.Sockets), len(files), m.Version)
	}
	if err != nil {
		closeFiles(files)
		return err
	}
	p.process = m.Process
	for i, f := range files {
		l, e := net.FileListener(f)
		if err = errors.Join(err, e); e == nil {
			m.Sockets[i].listener = l
			p.sockets = append(p.sockets, m.Sockets[i])
		}
	}
	closeFiles(files) // the listeners have their own
	if err != nil {
		(&sockets{inherited: p.sockets}).decline()
		return fmt.Errorf("take sockets from process %d: %w", p.process, err)
	}
	return nil
}

// succeed tells the process before that this one is ready, and returns once
// it alone may accept. With errGone it may if it gets the data folder. After
// any other error the process before goes on. It is called once.
func (p *predecessor) succeed(ctx context.Context) error {
	if ctx.Err() != nil {
		return errEnded
	}
	sent := p.send(newMessage(ready)) // when it fails there still may be a refusal to read
	m, _, err := p.receive(p.limit)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		// From here on the other cannot write, so that it cannot leave either.
		// What it has written before is still to be read.
		if e := p.conn.CloseRead(); e != nil {
			return e
		}
		if m, _, err = p.receive(answerLimit); err != nil {
			return fmt.Errorf("process %d does not answer", p.process)
		}
	}
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", errGone, errors.Join(sent, err))
	case m.Kind == refused:
		return fmt.Errorf("process %d refuses: %s", m.Process, m.Reason)
	case m.Kind != yours:
		return fmt.Errorf("process %d says %q in place of %q", m.Process, m.Kind, yours)
	}
	return nil
}

func (p *predecessor) close() { _ = p.conn.Close() } // what mattered has been said
