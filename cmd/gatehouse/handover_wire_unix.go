//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

// wire carries messages, and descriptors with them.
type wire struct {
	conn *net.UnixConn
	rest []byte // read, and not yet a whole line
}

const (
	maxMessage = 64 << 10 // bytes
	maxSockets = 16
)

// send writes a message, with the descriptors of its sockets.
func (w *wire) send(m message) error {
	line, err := json.Marshal(m)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	if err := w.conn.SetWriteDeadline(time.Now().Add(answerLimit)); err != nil {
		return err
	}
	return withDescriptors(m.Sockets, nil, func(fds []int) error {
		var rights []byte
		if len(fds) > 0 {
			rights = syscall.UnixRights(fds...)
		}
		n, _, err := w.conn.WriteMsgUnix(line, rights, nil)
		if err == nil && n < len(line) {
			_, err = w.conn.Write(line[n:])
		}
		return err
	})
}

// withDescriptors calls f with fds and the descriptors of the sockets, which
// stay open as long as it runs. They are not taken by File: it would set the
// shared socket to blocking.
func withDescriptors(ss []socket, fds []int, f func([]int) error) error {
	if len(ss) == 0 {
		return f(fds)
	}
	l, ok := ss[0].listener.(syscall.Conn)
	if !ok {
		return fmt.Errorf("%s: a %T has no descriptor", ss[0].Use, ss[0].listener)
	}
	raw, err := l.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = raw.Control(func(fd uintptr) { sent = withDescriptors(ss[1:], append(fds, int(fd)), f) })
	return errors.Join(err, sent)
}

// receive reads a message and the descriptors that come with it, which are
// the caller's to close.
func (w *wire) receive(limit time.Duration) (m message, files []*os.File, err error) {
	if err := w.conn.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return m, nil, err
	}
	buf, oob := make([]byte, 4<<10), make([]byte, syscall.CmsgSpace(4*maxSockets))
	for {
		if line, rest, whole := bytes.Cut(w.rest, []byte("\n")); whole {
			w.rest = rest
			if err = json.Unmarshal(line, &m); err != nil {
				break
			}
			return m, files, nil
		}
		if len(w.rest) > maxMessage {
			err = errors.New("a message without end")
			break
		}
		n, noob, flags, _, e := w.conn.ReadMsgUnix(buf, oob)
		if err = e; err != nil {
			break
		}
		var more []*os.File
		more, err = received(oob[:noob])
		files = append(files, more...)
		w.rest = append(w.rest, buf[:n]...)
		if err == nil && (flags&syscall.MSG_CTRUNC != 0 || len(files) > maxSockets) {
			err = errors.New("more descriptors than there is room for")
		}
		if err != nil {
			break
		}
	}
	closeFiles(files)
	return m, nil, err
}

// received returns the descriptors in a control message.
func received(oob []byte) ([]*os.File, error) {
	controls, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for i := range controls {
		fds, e := syscall.ParseUnixRights(&controls[i])
		err = errors.Join(err, e)
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "inherited socket"))
		}
	}
	return files, err
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		_ = f.Close() // only a copy
	}
}

// refuse says why there is nothing to take.
func (w *wire) refuse(reason string) {
	m := newMessage(refused)
	m.Reason = reason
	_ = w.send(m) // the other may have gone
}
