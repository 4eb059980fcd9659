package proxy

import (
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/proxy/edge"
	"github.com/gatehouse-gateway/gatehouse/proxy/identity"
	"github.com/valyala/fasthttp"
)

// newServer returns what keeps the connections. Of fasthttp it is the loop
// that accepts and the workers; codecs of our own speak on what they hand out
// (ADR 7).
func (g *Gateway) newServer() *fasthttp.Server {
	s := &fasthttp.Server{
		// Every connection is of one of the protocols below.
		Handler: func(ctx *fasthttp.RequestCtx) { ctx.SetConnectionClose() },
		Logger:  quiet{},
		// Connections are bounded at the listener, which can say so.
		Concurrency: 1 << 20,
	}
	s.NextProto("http/1.1", g.serveHTTP1)
	s.NextProto("h2", g.serveHTTP2)
	return s
}

// quiet drops fasthttp's own log: what it says of requests is in the records.
type quiet struct{}

func (quiet) Printf(string, ...any) {}

// edgeConfig says what a listener does with its connections.
func (g *Gateway) edgeConfig(secure *edge.TLS) edge.Config {
	l := &g.cfg.Limits
	return edge.Config{
		ProxyProtocol: g.cfg.ProxyProtocol, HeaderTimeout: g.http1.Header,
		Connections: l.Connections, PerAddress: l.PerAddress, Handshakes: l.Handshakes,
		Refusal: refusal(), TLS: secure, HTTP2: !g.cfg.HTTP2.Off, Counters: &g.metrics.edge,
	}
}

// refusal is the answer to a connection beyond what is held.
func refusal() []byte {
	p := gatehouse.Problems[gatehouse.CodeTooManyConnections]
	b := append([]byte(nil), `{"type":`...)
	b = appendJSON(b, p.Type)
	b = appendJSON(append(b, `,"title":`...), p.Title)
	b = strconv.AppendInt(append(b, `,"status":`...), int64(p.Status), 10)
	b = appendJSON(append(b, `,"code":`...), string(gatehouse.CodeTooManyConnections))
	b = append(b, "}\n"...)
	return fmt.Appendf(nil, "HTTP/1.1 %d %s\r\nContent-Type: application/problem+json\r\nCache-Control: no-store\r\n"+
		"Proxy-Status: gatehouse; error=%s\r\nRetry-After: 1\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		p.Status, http.StatusText(p.Status), p.ProxyStatus, len(b), b)
}

// newTLS reads the certificates.
func (g *Gateway) newTLS() (*edge.TLS, error) {
	return edge.NewTLS(edge.TLSConfig{Folder: g.cfg.TLS.Certificates, Host: g.tlsHost, Log: g.log})
}

// tlsHost is how the tenant of a server name has its handshakes.
func (g *Gateway) tlsHost(serverName string) (edge.Tenant, bool) {
	s := g.hosts.Find([]byte(serverName))
	if s == nil {
		return edge.Tenant{}, false
	}
	t := s.table.Load()
	if t == nil { // a platform domain, or just removed
		return edge.Tenant{}, s.platform != nil
	}
	return edge.Tenant{ID: t.id, MinVersion: t.minTLS, ClientCAs: t.verifier.ClientCAs(), ClientAuth: t.needsCertificate}, true
}

// minTLS is the lowest version of TLS for a tenant's hosts.
func minTLS(doc *gatehouse.Tenant) uint16 {
	if doc.TLS.MinVersion == gatehouse.TLS13 {
		return tls.VersionTLS13
	}
	return tls.VersionTLS12
}

// certified is the client certificate of one connection, and what the tenant's
// verifier made of it last: verifying costs as much as a hundred requests.
type certified struct {
	by    *identity.Verifier
	who   *identity.Verified
	err   error
	until time.Time // who and err hold until then
	sum   *[sha256.Size]byte
}

// recheck bounds how long what was found of a certificate is believed.
const recheck = time.Minute

// thumbprint returns the hash of the connection's certificate, made once.
func (c *certified) thumbprint(state *tls.ConnectionState) *[sha256.Size]byte {
	if c.sum == nil && state != nil && len(state.PeerCertificates) > 0 {
		sum := sha256.Sum256(state.PeerCertificates[0].Raw)
		c.sum = &sum
	}
	return c.sum
}

func (c *certified) of(v *identity.Verifier, state *tls.ConnectionState, now time.Time) (*identity.Verified, error) {
	if state == nil || len(state.PeerCertificates) == 0 || v.ClientCAs() == nil {
		return nil, nil
	}
	if c.by != v || !now.Before(c.until) {
		c.by, c.until = v, now.Add(recheck)
		if c.who, c.err = v.Certificate(state.PeerCertificates, now); c.err == nil && c.who.Expires.Before(c.until) {
			c.until = c.who.Expires
		}
	}
	return c.who, c.err
}
