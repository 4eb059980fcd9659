package upstream

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
)

// The example of RFC 6455, section 1.3.
const (
	socketKey    = "dGhlIHNhbXBsZSBub25jZQ=="
	socketAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

func upgradeTo(protocol string) *Request {
	return &Request{
		Head:       []byte("GET /chat HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: " + protocol + "\r\n\r\n"),
		Idempotent: true, UpgradeTo: []byte(protocol),
	}
}

func webSocket() *Request {
	req := upgradeTo("websocket")
	req.WebSocketKey = []byte(socketKey)
	return req
}

// upgraded tells what Upgrade comes to: the answer and, through a tunnel, what
// is read there after a word was sent.
func upgraded(b *Backend, req *Request) string {
	var resp Response
	c, err := b.Upgrade(req, &resp)
	if err != nil {
		return failureText(err) + fmt.Sprintf(" attempts=%d", resp.Attempts)
	}
	if c == nil {
		body, err := io.ReadAll(&resp)
		resp.Release()
		return fmt.Sprintf("%d %q %v attempts=%d", resp.Status, body, err, resp.Attempts)
	}
	_, _ = io.WriteString(c, "word\r\n\r\n")
	all, err := io.ReadAll(c)
	s := fmt.Sprintf("%d%s: %q %v attempts=%d", resp.Status, fieldText(resp.Fields), all, err, resp.Attempts)
	c.Close()
	return s
}

const switching = "HTTP/1.1 101 Switching Protocols\r\n"

func TestUpgrade(t *testing.T) {
	f := func(name string, req *Request, answer, expected string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			b := live(t, gatehouse.Backend{Timeouts: brief, Retries: gatehouse.Retries{Attempts: 3, On: []string{"connect", "reset", "503"}}},
				backend(t, func(_ int, p *peer) {
					p.request()
					p.send(answer)
					if strings.HasPrefix(answer, switching) {
						p.send("you said " + p.request())
					}
				}))
			want(t, upgraded(b, req), expected)
			if s := b.Stats(); s.Live != 0 || s.Endpoints[0].InFlight != 0 || s.Endpoints[0].Open != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
	accept := "Sec-WebSocket-Accept: " + socketAccept + "\r\n"
	f("websocket", webSocket(), switching+"Upgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n"+accept+"\r\nearly ",
		`101 Upgrade="WebSocket" Connection="keep-alive, Upgrade" Sec-WebSocket-Accept="`+socketAccept+`": "early you said word\r\n\r\n" <nil> attempts=1`)
	f("other", upgradeTo("echo/1"), switching+"Connection: upgrade\r\nUpgrade: echo/1\r\n\r\n",
		`101 Connection="upgrade" Upgrade="echo/1": "you said word\r\n\r\n" <nil> attempts=1`)
	f("interim first", upgradeTo("x"), "HTTP/1.1 103 Early Hints\r\n\r\n"+switching+"Connection: upgrade\r\nUpgrade: x\r\n\r\n"+"bye",
		`101 Connection="upgrade" Upgrade="x": "bye" <nil> attempts=1`)

	f("refused", webSocket(), "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", `403 "no" <nil> attempts=1`)
	f("refused by status", webSocket(), "HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nno", `503 "no" <nil> attempts=1`)
	f("until the end", webSocket(), "HTTP/1.1 200 OK\r\n\r\nno", `200 "no" <nil> attempts=1`)
	f("reset", webSocket(), "", "GH-FW-001 connection_terminated attempts=1")

	const failed = "GH-FW-003 http_upgrade_failed attempts=1"
	f("no Upgrade", webSocket(), switching+"Connection: upgrade\r\n"+accept+"\r\n", failed)
	f("no Connection", webSocket(), switching+"Upgrade: websocket\r\n"+accept+"\r\n", failed)
	f("other Connection", webSocket(), switching+"Connection: upgraded\r\nUpgrade: websocket\r\n"+accept+"\r\n", failed)
	f("other protocol", webSocket(), switching+"Connection: upgrade\r\nUpgrade: h2c\r\n"+accept+"\r\n", failed)
	f("two protocols", webSocket(), switching+"Connection: upgrade\r\nUpgrade: websocket, h2c\r\n"+accept+"\r\n", failed)
	f("Upgrade twice", webSocket(), switching+"Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: websocket\r\n"+accept+"\r\n", failed)
	f("no accept", webSocket(), switching+"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n", failed)
	f("wrong accept", webSocket(), switching+"Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: "+strings.ToLower(socketAccept)+"\r\n\r\n", failed)
	f("accept twice", webSocket(), switching+"Connection: upgrade\r\nUpgrade: websocket\r\n"+accept+accept+"\r\n", failed)
	f("a body", upgradeTo("x"), switching+"Connection: upgrade\r\nUpgrade: x\r\nContent-Length: 3\r\n\r\nabc", "GH-FW-003 http_protocol_error attempts=1")
	f("a chunked body", upgradeTo("x"), switching+"Connection: upgrade\r\nUpgrade: x\r\nTransfer-Encoding: chunked\r\n\r\nabc", "GH-FW-003 http_protocol_error attempts=1")
}

// A tunnel counts as in flight, needs no place in the pool, and takes none.
func TestTunnelCounts(t *testing.T) {
	asked := make(chan struct{}, 1)
	url := backend(t, func(_ int, p *peer) {
		for head := p.request(); head != ""; head = p.request() {
			if strings.Contains(head, "Upgrade:") {
				p.send(switching + "Connection: upgrade\r\nUpgrade: x\r\n\r\n")
				p.hold()
				asked <- struct{}{}
				return
			}
			p.send(ok)
		}
	})
	b := live(t, gatehouse.Backend{MaxConnections: 1}, url)
	kept := held(t, b)
	var first, second Response
	open := func(resp *Response) net.Conn {
		t.Helper()
		c, err := b.Upgrade(upgradeTo("x"), resp)
		if err != nil || c == nil {
			t.Fatal(err)
		}
		return c
	}
	one, two := open(&first), open(&second)
	first.Release() // without effect
	told := func() string {
		s := b.Stats()
		e := s.Endpoints[0]
		return fmt.Sprintf("live %d, in flight %d, open %d, dials %d", s.Live, e.InFlight, e.Open, e.Dials)
	}
	want(t, told(), "live 3, in flight 3, open 1, dials 3")
	kept.Release()
	want(t, outcome(b, get()), `200 "ok" attempts=1`)
	one.Close()
	one.Close()
	<-asked
	want(t, told(), "live 1, in flight 1, open 1, dials 3")
	two.Close()
	<-asked
	want(t, told(), "live 0, in flight 0, open 1, dials 3")
}

// Failures to connect are retried, on another endpoint.
func TestUpgradeRetries(t *testing.T) {
	good := backend(t, func(_ int, p *peer) {
		p.request()
		p.send(switching + "Connection: upgrade\r\nUpgrade: x\r\n\r\nhello")
		p.request() // closing on unread bytes would be a reset
	})
	b := live(t, gatehouse.Backend{Retries: gatehouse.Retries{Attempts: 1}}, refusing(t), good)
	want(t, upgraded(b, upgradeTo("x")), `101 Connection="upgrade" Upgrade="x": "hello" <nil> attempts=2`)
	b = live(t, gatehouse.Backend{Retries: gatehouse.Retries{Attempts: 1}}, refusing(t))
	want(t, upgraded(b, upgradeTo("x")), `GH-FW-001 connection_refused attempts=2`)
}

func TestUpgradeOverTLS(t *testing.T) {
	cert, roots := authority(t, "127.0.0.1")
	url := secureBackend(t, &tls.Config{Certificates: []tls.Certificate{cert}}, func(_ int, p *peer) {
		p.request()
		p.send(switching + "Connection: upgrade\r\nUpgrade: x\r\n\r\nearly ")
		p.send("you said " + p.request())
	})
	b := version(t, client(t, Config{RootCAs: roots}), nil, gatehouse.Backend{}, url)
	want(t, upgraded(b, upgradeTo("x")), `101 Connection="upgrade" Upgrade="x": "early you said word\r\n\r\n" <nil> attempts=1`)
}
