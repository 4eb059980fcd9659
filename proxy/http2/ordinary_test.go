package http2

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// serve serves connections on a loopback address until the test ends, and
// returns a client of net/http for it.
func serve(t testing.TB, cfg *Config, handle func(*Stream), h2 *http.HTTP2Config) (*http.Client, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []*Conn
	wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			c := NewConn(nc, cfg, handle)
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			wg.Go(func() {
				if err := c.Serve(); err != nil && !errors.Is(err, net.ErrClosed) {
					t.Logf("Serve: %v", err)
				}
				_ = c.Close()
			})
		}
	})
	tr := &http.Transport{Protocols: new(http.Protocols), HTTP2: h2}
	tr.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		_ = l.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return &http.Client{Transport: tr, Timeout: time.Minute}, "http://" + l.Addr().String()
}

// mirror sends the body back as it comes, and its length as a trailer.
func mirror(s *Stream) {
	s.Begin(200)
	if err := s.Flush(); err != nil {
		return
	}
	n := 0
	p := make([]byte, 32<<10)
	for {
		k, err := s.Read(p)
		n += k
		if k > 0 {
			if _, err := s.Write(p[:k]); err != nil {
				return
			}
		}
		if err == io.EOF { //nolint:errorlint // io.Reader's contract
			break
		}
		if err != nil {
			return
		}
	}
	s.Field([]byte("X-Length"), strconv.AppendInt(nil, int64(n), 10))
	for _, f := range s.Trailer() {
		s.Field(f.Name, f.Value)
	}
	_ = s.End()
}

// TestMirror sends bodies both ways at once, on many streams, through windows
// of any size.
func TestMirror(t *testing.T) {
	f := func(name string, window, connWindow, theirs, streams, size int) {
		t.Run(name, func(t *testing.T) {
			cfg := config()
			cfg.Streams, cfg.StreamWindow, cfg.ConnWindow = 100, window, connWindow
			client, url := serve(t, cfg, mirror, &http.HTTP2Config{
				MaxReceiveBufferPerStream: theirs, MaxReceiveBufferPerConnection: 4 * theirs, MaxReadFrameSize: maxFrame,
			})
			var wg sync.WaitGroup
			for i := range streams {
				wg.Go(func() {
					body := bytes.Repeat([]byte(fmt.Sprintf("%07d\n", i)), size/8)
					req, _ := http.NewRequestWithContext(t.Context(), "POST", url, io.MultiReader(bytes.NewReader(body)))
					req.Trailer = http.Header{"X-Sent": {"yes"}}
					resp, err := client.Do(req)
					if err != nil {
						t.Error(err)
						return
					}
					defer resp.Body.Close()
					got, err := io.ReadAll(resp.Body)
					if err != nil || !bytes.Equal(got, body) {
						t.Errorf("%d: %d bytes of %d, %v", i, len(got), len(body), err)
					}
					if got := fmt.Sprint(resp.Trailer); got != fmt.Sprintf("map[X-Length:[%d] X-Sent:[yes]]", len(body)) {
						t.Errorf("%d: %s", i, got)
					}
				})
			}
			wg.Wait()
		})
	}
	f("10 MiB", 0, 0, 1<<20, 1, 10<<20)
	f("10 MiB through small windows", 1000, 0, 64<<10, 1, 10<<20)
	f("100 streams", 0, 0, 1<<20, 100, 200<<10)
	f("100 streams through small windows", 5000, firstWindow, 64<<10, 100, 100<<10)
}

// TestManyRequests makes short requests from many goroutines.
func TestManyRequests(t *testing.T) {
	cfg := config()
	cfg.Streams = 50
	client, url := serve(t, cfg, echo, nil)
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			for j := range 20 {
				body := fmt.Sprint(i, j)
				req, _ := http.NewRequestWithContext(t.Context(), "POST", url+"/"+strconv.Itoa(i), strings.NewReader(body))
				req.Header.Set("User-Agent", "test")
				req.Header.Set("Accept-Encoding", "identity")
				resp, err := client.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				got, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				want := fmt.Sprintf("POST http %s /%d accept-encoding=identity user-agent=test content-length=%d body=%s", url[7:], i, len(body), body)
				if err != nil || len(got) != len(want) || !strings.HasSuffix(string(got), body) {
					t.Errorf("%q, %v, want %q", got, err, want)
				}
			}
		})
	}
	wg.Wait()
}

// TestCancel has the handler learn that a client gave up.
func TestCancel(t *testing.T) {
	got := make(chan string, 1)
	client, url := serve(t, config(), func(s *Stream) {
		s.Begin(200)
		_, _ = s.Write([]byte("first"))
		_, err := io.Copy(io.Discard, s)
		_, after := s.Write([]byte("second"))
		got <- fmt.Sprint(err, "; ", after, "; ", s.Gone())
	}, nil)
	r, w := io.Pipe()
	defer w.Close()
	req, _ := http.NewRequestWithContext(t.Context(), "POST", url, r)
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(resp.Body, make([]byte, 5)); err != nil {
		t.Error(err)
	}
	_ = resp.Body.Close()
	const reset = "the client has reset the stream: unexpected EOF"
	if got, want := <-got, reset+"; "+reset+"; true"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestEarlyAnswer answers a request whose body nobody reads.
func TestEarlyAnswer(t *testing.T) {
	client, url := serve(t, config(), func(s *Stream) {
		s.Begin(413)
		_ = s.Whole([]byte("too large"))
	}, nil)
	for range 20 {
		req, _ := http.NewRequestWithContext(t.Context(), "POST", url, bytes.NewReader(make([]byte, 1<<20)))
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if string(got) != "too large" || resp.StatusCode != 413 || err != nil {
			t.Errorf("%d %s %v", resp.StatusCode, got, err)
		}
	}
}
