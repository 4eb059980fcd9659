package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// lab is a network in memory where endpoints are as broken as they are said to
// be.
type lab struct {
	wire   *wire
	dialed func(ctx context.Context, addr string) error // what a dial ends in; nil: it succeeds
}

func (l *lab) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if l.dialed != nil {
		if err := l.dialed(ctx, addr); err != nil {
			return nil, err
		}
	}
	nc, err := l.wire.dial(ctx, network, addr)
	return abrupt{nc}, err
}

// abrupt is a connection whose other side ends it with RST.
type abrupt struct{ net.Conn }

func (a abrupt) Read(p []byte) (int, error) {
	n, err := a.Conn.Read(p)
	if errors.Is(err, io.EOF) {
		err = &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
	}
	return n, err
}

// dialFault is err for a, and none for other endpoints.
func dialFault(err error) func(context.Context, string) error {
	return func(_ context.Context, addr string) error {
		if addr != "a:80" {
			return nil
		}
		return &net.OpError{Op: "dial", Net: "tcp", Err: err}
	}
}

// blackHole never answers those who connect to a.
func blackHole(ctx context.Context, addr string) error {
	if addr != "a:80" {
		return nil
	}
	<-ctx.Done()
	return &net.OpError{Op: "dial", Net: "tcp", Err: ctx.Err()}
}

const faultTable = `
| fault | status | Proxy-Status | attempts | took | endpoint failed |
|---|---|---|---|---|---|
| none | 200 | - | 1 | 0s | no |
| connection refused | 502 | connection_refused | 1 | 0s | yes |
| no route to the host | 502 | destination_ip_unroutable | 1 | 0s | yes |
| name not found | 502 | dns_error | 1 | 0s | yes |
| name servers silent | 504 | dns_timeout | 1 | 2s | yes |
| address not allowed | 502 | destination_ip_prohibited | 1 | 0s | yes |
| black hole: connect unanswered | 504 | connection_timeout | 1 | 2s | yes |
| reset before the answer | 502 | connection_terminated | 1 | 0s | yes |
| reset within the header | 502 | http_response_incomplete | 1 | 0s | yes |
| silence within the header | 504 | http_response_timeout | 1 | 30s | yes |
| reset within the body | 200, broken off | http_response_incomplete | 1 | 0s | no |
| silence within the body | 200, broken off | connection_read_timeout | 1 | 1m0s | no |
| slow first byte: 29 s | 200 | - | 1 | 29s | no |
| slow first byte: 31 s | 504 | http_response_timeout | 1 | 30s | yes |
| request unread | 504 | connection_write_timeout | 1 | 1m15s | yes |
| garbage | 502 | http_protocol_error | 1 | 0s | no |
| answer 503 | 503 | - | 1 | 0s | yes |
| answer 500 | 500 | - | 1 | 0s | no |
| kept connection ends, GET | 200 | - | 2 | 0s | no |
| kept connection ends, POST | 502 | connection_terminated | 1 | 0s | yes |
| connections used up | 503 | connection_limit_reached | 1 | 2s | no |
| queue full | 503 | connection_limit_reached | 1 | 0s | no |
| client's body breaks off | 400 | http_request_error | 1 | 0s | no |
| connection refused, retry | 200 | - | 2 | 0s | yes |
| connection refused, POST, retry | 200 | - | 2 | 0s | yes |
| black hole, retry | 200 | - | 2 | 2s | yes |
| reset before the answer, retry | 200 | - | 2 | 0s | yes |
| reset before the answer, POST, retry | 502 | connection_terminated | 1 | 0s | yes |
| slow first byte, retry | 504 | http_response_timeout | 1 | 30s | yes |
| answer 503, retry | 200 | - | 2 | 0s | yes |
| first of two ejected | 200 | - | 1 | 0s | yes |
| all ejected or unhealthy | 502 | connection_refused | 1 | 0s | yes |
| first of two circuits open | 200 | - | 1 | 0s | yes |
| only circuit open | 503 | destination_unavailable | 0 | 0s | yes |
| circuit opens between attempts | 502 | connection_refused | 1 | 0s | yes |
`

// What a caller gets for each way in which endpoint a may fail, with the
// default timeouts: the status, the token, how many attempts were made, how
// long it took, and whether the endpoint is held to have failed. b, where it is
// there, is well. With -v it prints the table.
func TestFaultTable(t *testing.T) {
	var table strings.Builder
	table.WriteString("\n| fault | status | Proxy-Status | attempts | took | endpoint failed |\n|---|---|---|---|---|---|\n")
	type setting struct {
		doc    gatehouse.Backend
		dialed func(context.Context, string) error
		serve  func(p *peer)            // a; nil: it answers
		two    bool                     // b is there
		before func(b *Backend, l *lab) // the request that is looked at
		req    *Request                 // nil: GET
	}
	f := func(name string, s setting) {
		synctest.Test(t, func(t *testing.T) {
			l := &lab{newWire(), s.dialed}
			fine := func(p *peer) { always(ok)(1, p) }
			urls := []string{"http://a"}
			l.wire.handle("a:80", fine)
			if s.serve != nil {
				l.wire.handle("a:80", s.serve)
			}
			if s.two {
				urls = append(urls, "http://b")
				l.wire.handle("b:80", func(p *peer) {
					for p.request() != "" {
						_, _ = io.CopyN(io.Discard, p.r, 1) // of POST
						p.send(ok)
					}
				})
				if s.req == nil {
					l.wire.handle("b:80", fine)
				}
			}
			c := New(Config{Dial: l.dial})
			<-time.After(time.Second) // instant 0 is for "never"
			b := version(t, c, nil, s.doc, urls...)
			if s.before != nil {
				s.before(b, l)
			}
			if s.req == nil {
				s.req = get()
			}
			start := time.Now()
			var resp Response
			status, token := "", "-"
			err := b.Do(s.req, &resp)
			if err == nil {
				status = fmt.Sprint(resp.Status)
				if _, err := io.Copy(io.Discard, &resp); err != nil {
					status += ", broken off"
					e, _ := errors.AsType[*Error](err)
					token = e.Token
				}
			} else {
				e, _ := errors.AsType[*Error](err)
				status, token = fmt.Sprint(gatehouse.Problems[e.Code].Status), e.Token
			}
			took := time.Since(start)
			resp.Release()
			a := b.members[0]
			failed := map[bool]string{false: "no", true: "yes"}[a.outlier.streak.Load() > 0 || a.outlier.rounds.Load() > 0]
			fmt.Fprintf(&table, "| %s | %s | %s | %d | %v | %s |\n", name, status, token, resp.Attempts, took, failed)
			c.Close()
			c.Abort()
			l.wire.all.Wait()
		})
	}
	// after answers the first request with s; the connection ends if it ends.
	after := func(s string, holds bool) func(*peer) {
		return func(p *peer) {
			p.request()
			p.send(s)
			if holds {
				p.hold()
			}
		}
	}
	slow := func(d time.Duration) func(*peer) {
		return func(p *peer) {
			p.request()
			<-time.After(d)
			p.send(ok)
		}
	}
	// once serves one request on each connection and leaves after the next one.
	once := func(p *peer) {
		p.request()
		p.send(ok)
		p.request()
	}
	warm := func(b *Backend, _ *lab) { outcome(b, get()) }
	retry := func(on ...string) gatehouse.Backend {
		return gatehouse.Backend{Retries: gatehouse.Retries{Attempts: 2, On: on}}
	}
	refused := dialFault(syscall.ECONNREFUSED)
	cut := "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"
	one := gatehouse.Backend{MaxConnections: 1}
	queue := gatehouse.Backend{MaxConnections: 1, MaxWaiting: 1}
	breaker := gatehouse.Backend{Circuit: gatehouse.Circuit{FailureRatio: 50 * 100, MinRequests: 3}}
	quick := retry()
	quick.Circuit = gatehouse.Circuit{FailureRatio: 50 * 100, MinRequests: 1}
	lost := post(strings.Repeat("x", 100_000))
	lost.Body = strings.NewReader("x")

	f("none", setting{})
	f("connection refused", setting{dialed: refused})
	f("no route to the host", setting{dialed: dialFault(syscall.EHOSTUNREACH)})
	f("name not found", setting{dialed: dialFault(&net.DNSError{Err: "no such host", IsNotFound: true})})
	f("name servers silent", setting{dialed: func(ctx context.Context, _ string) error {
		<-ctx.Done()
		return &net.DNSError{Err: ctx.Err().Error(), IsTimeout: true}
	}})
	f("address not allowed", setting{dialed: dialFault(errProhibited)})
	f("black hole: connect unanswered", setting{dialed: blackHole})
	f("reset before the answer", setting{serve: after("", false)})
	f("reset within the header", setting{serve: after("HTTP/1.1 200 OK\r\nA:", false)})
	f("silence within the header", setting{serve: after("HTTP/1.1 200 OK\r\nA:", true)})
	f("reset within the body", setting{serve: after(cut, false)})
	f("silence within the body", setting{serve: after(cut, true)})
	f("slow first byte: 29 s", setting{serve: slow(29 * time.Second)})
	f("slow first byte: 31 s", setting{serve: slow(31 * time.Second)})
	f("request unread", setting{serve: func(*peer) { <-time.After(2 * time.Minute) }})
	f("garbage", setting{serve: after("SSH-2.0-OpenSSH_9.6\r\n", true)})
	f("answer 503", setting{serve: after(unavailable, true)})
	f("answer 500", setting{serve: after("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", true)})
	f("kept connection ends, GET", setting{serve: once, before: warm})
	f("kept connection ends, POST", setting{serve: once, before: warm, req: &Request{Head: get().Head}})
	f("connections used up", setting{doc: one, before: func(b *Backend, _ *lab) { held(t, b) }})
	f("queue full", setting{doc: queue, before: func(b *Backend, l *lab) {
		held(t, b)
		l.wire.all.Go(func() { outcome(b, get()) })
		synctest.Wait()
	}})
	f("client's body breaks off", setting{req: lost, serve: func(p *peer) { p.hold() }})
	f("connection refused, retry", setting{doc: retry(), dialed: refused, two: true})
	f("connection refused, POST, retry", setting{doc: retry(), dialed: refused, two: true, req: post("x")})
	f("black hole, retry", setting{doc: retry(), dialed: blackHole, two: true})
	f("reset before the answer, retry", setting{doc: retry("reset"), serve: after("", false), two: true})
	f("reset before the answer, POST, retry", setting{doc: retry("reset"), serve: func(p *peer) {
		p.request()
		_, _ = io.CopyN(io.Discard, p.r, 1)
	}, two: true, req: post("x")})
	f("slow first byte, retry", setting{doc: retry("connect", "reset", "503"), serve: slow(31 * time.Second), two: true})
	f("answer 503, retry", setting{doc: retry("503"), serve: after(unavailable, true), two: true})
	f("first of two ejected", setting{dialed: refused, two: true, before: func(b *Backend, _ *lab) { fail(b, 0, 5) }})
	f("all ejected or unhealthy", setting{
		doc: checked, dialed: refused, two: true,
		before: func(b *Backend, _ *lab) { fail(b, 0, 5); b.members[1].sick.Store(true) },
	})
	f("first of two circuits open", setting{doc: breaker, dialed: refused, two: true, before: func(b *Backend, _ *lab) { fail(b, 0, 3) }})
	f("only circuit open", setting{doc: breaker, dialed: refused, before: func(b *Backend, _ *lab) { fail(b, 0, 3) }})
	f("circuit opens between attempts", setting{doc: quick, dialed: refused})

	t.Log(table.String())
	if table.String() != faultTable {
		got, expected := strings.Split(table.String(), "\n"), strings.Split(faultTable, "\n")
		for i := range max(len(got), len(expected)) {
			switch {
			case i >= len(got):
				t.Errorf("missing %s", expected[i])
			case i >= len(expected):
				t.Errorf("extra %s", got[i])
			case got[i] != expected[i]:
				want(t, got[i], expected[i])
			}
		}
	}
}
