package http2

import (
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"
)

// FuzzFrames feeds a connection whatever bytes behind a good beginning: it
// ends without a panic, with every handler returned, and holds no more than it
// may. TestMain looks for goroutines that are left.
func FuzzFrames(f *testing.F) {
	var block []byte
	enc := hpack.NewEncoder(writerFunc(func(p []byte) { block = append(block, p...) }))
	for _, h := range [][2]string{{":method", "POST"}, {":scheme", "https"}, {":path", "/a"}, {"content-length", "5"}} {
		_ = enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
	}
	head := func(flags uint8, id uint32) []byte {
		return append(appendFrame(nil, len(block), kindHeaders, flags, id), block...)
	}
	join := func(parts ...[]byte) (all []byte) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	f.Add(join(head(flagEndHeaders, 1), append(appendFrame(nil, 5, kindData, flagEndStream, 1), "hello"...)))
	f.Add(join(head(0, 1), appendFrame(nil, 0, kindContinuation, flagEndHeaders, 1), appendReset(nil, 1, Cancel)))
	f.Add(join(head(flagEndHeaders|flagEndStream, 3), appendPing(nil, 0, []byte("12345678")), appendGoAway(nil, 3, NoError, "bye")))
	f.Add(join(appendSetting(appendFrame(nil, settingBytes, kindSettings, 0, 0), settingWindow, 1), head(flagEndHeaders, 1),
		appendWindowUpdate(nil, 1, 10), append(appendFrame(nil, 5, kindData, flagPadded, 1), "\x02abcd"...), head(flagEndHeaders|flagEndStream, 1)))
	cfg := &Config{HeaderBytes: 1 << 10, Streams: 3, Header: time.Second, Idle: time.Second, StreamWindow: 8 << 10, ConnWindow: firstWindow}
	f.Fuzz(func(t *testing.T, frames []byte) {
		near, far := net.Pipe()
		c := NewConn(far, cfg, func(s *Stream) {
			n, err := io.Copy(io.Discard, s)
			if err == nil && s.declared >= 0 && n != s.declared {
				t.Errorf("a body of %d bytes, %d were declared", n, s.declared)
			}
			if err == nil && len(s.Path) == 0 && string(s.Method) != "CONNECT" && !s.TooLarge {
				t.Error("a request without a path")
			}
			s.Begin(200)
			s.Field([]byte("A"), []byte("b"))
			_, _ = s.Write([]byte("c"))
			_ = s.End()
		})
		read := make(chan struct{})
		go func() {
			defer close(read)
			_, _ = io.Copy(io.Discard, near)
		}()
		served := make(chan error)
		go func() {
			err := c.Serve()
			_ = c.Close()
			served <- err
		}()
		_, _ = io.WriteString(near, preface+"\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x04\x01\x00\x00\x00\x00")
		_, _ = near.Write(frames)
		_ = near.Close()
		err := <-served
		<-read
		if c.running != 0 || c.open != 0 || len(c.streams) != 0 || len(c.heads)+len(c.queue) != 0 {
			t.Errorf("%d handlers, %d streams, %d known, %d waiting", c.running, c.open, len(c.streams), len(c.heads)+len(c.queue))
		}
		if held := c.cfg.connWindow() - c.credit - c.used; held != 0 && (err == nil || err == io.ErrUnexpectedEOF) { //nolint:errorlint // as Serve returns it
			t.Errorf("%d bytes of the window are lost", held)
		}
	})
}

type writerFunc func(p []byte)

func (f writerFunc) Write(p []byte) (int, error) {
	f(p)
	return len(p), nil
}
