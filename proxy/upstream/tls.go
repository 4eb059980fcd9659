package upstream

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// identity is how a backend's connections are made, beside the address.
// Versions of a backend share connections of equal identity only.
type identity struct {
	protocol gatehouse.Protocol
	// secrets is the SHA-256 of all that the document says of TLS, and of the
	// texts in its files, whose names do not matter; zero where it says nothing.
	secrets [sha256.Size]byte
}

func newIdentity(doc gatehouse.Backend) identity {
	id := identity{protocol: doc.Protocol}
	parts := [...][]byte{[]byte(doc.TLS.ServerName), []byte(doc.TLS.MinVersion), []byte(doc.TLS.CA), []byte(doc.TLS.Cert), doc.TLS.Key}
	if slices.ContainsFunc(parts[:], func(p []byte) bool { return len(p) > 0 }) {
		h := sha256.New()
		for _, p := range parts {
			h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(p))))
			h.Write(p)
		}
		h.Sum(id.secrets[:0])
	}
	if id.protocol == "" {
		id.protocol = gatehouse.HTTP1
	}
	return id
}

// secureConfig returns what the https endpoints of doc are dialled with, but
// for the server's name where the document leaves it to the URL. roots are the
// authorities where the document names none.
func secureConfig(doc gatehouse.Backend, roots *x509.CertPool) (*tls.Config, error) {
	cfg := &tls.Config{
		ServerName: doc.TLS.ServerName,
		RootCAs:    roots,
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"},
	}
	if doc.Protocol == gatehouse.HTTP2 {
		cfg.NextProtos = []string{"h2"}
	}
	switch doc.TLS.MinVersion {
	case "", "1.2":
	case "1.3":
		cfg.MinVersion = tls.VersionTLS13
	default:
		return nil, fmt.Errorf("tls: min_version %q is neither 1.2 nor 1.3", doc.TLS.MinVersion)
	}
	switch {
	case doc.TLS.CA != "":
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM([]byte(doc.TLS.CA)) {
			return nil, errors.New("tls: ca_file holds no certificate in PEM")
		}
	case doc.TLS.CAFile != "": // trusting the system's instead would be worse than nothing
		return nil, fmt.Errorf("tls: ca_file %s is empty", doc.TLS.CAFile)
	}
	if doc.TLS.Cert == "" && len(doc.TLS.Key) == 0 && doc.TLS.CertFile == "" && doc.TLS.KeyFile == "" {
		return cfg, nil
	}
	cert, err := tls.X509KeyPair([]byte(doc.TLS.Cert), doc.TLS.Key)
	if err != nil {
		return nil, fmt.Errorf("tls: cert_file and key_file: %w", err)
	}
	cfg.Certificates = []tls.Certificate{cert}
	return cfg, nil
}

// Check returns what is wrong with a valid document that Client.Backend would
// refuse, and, as a warning, endpoints that could never be dialled. Pointers
// are relative to the backend.
func Check(doc gatehouse.Backend) gatehouse.Faults {
	var faults gatehouse.Faults
	if _, err := secureConfig(doc, nil); err != nil {
		at, reason := "/tls", strings.TrimPrefix(err.Error(), "tls: ")
		hint := ""
		switch {
		case strings.HasPrefix(reason, "ca_file"):
			at, hint = "/tls/ca_file", "PEM blocks of type CERTIFICATE are read"
		case strings.HasPrefix(reason, "cert_file"):
			at, hint = "/tls/cert_file", "cert_file holds the certificate and its chain, key_file its key, both PEM"
		}
		faults = append(faults, gatehouse.Fault{Pointer: at, Reason: reason, Hint: hint})
	}
	for i, e := range doc.Endpoints {
		t, err := parseTarget(e.URL)
		at := gatehouse.Pointer("endpoints", i, "url")
		if err != nil {
			faults = append(faults, gatehouse.Fault{Pointer: at, Reason: err.Error()})
			continue
		}
		if a, err := netip.ParseAddr(t.host); err == nil && Prohibited(a) {
			faults = append(faults, gatehouse.Fault{
				Pointer: at, Warning: true, Reason: fmt.Sprintf("address %s is one that no backend may have", a),
				Hint: "requests get 502: it is unspecified, link-local, multicast or a cloud's metadata service",
			})
		}
	}
	return faults
}

// forHost makes base the configuration of one endpoint.
func forHost(base *tls.Config, host string) *tls.Config {
	const resumable = 16 // sessions; one is enough, more allow for a balancer behind the name
	cfg := base.Clone()
	if cfg.ServerName == "" {
		cfg.ServerName = host
	}
	cfg.ClientSessionCache = tls.NewLRUClientSessionCache(resumable)
	return cfg
}

// errNotH2 is of the handshake; errForeign, of what follows it.
var (
	errNotH2   = errors.New("the backend does not speak HTTP/2")
	errForeign = &malformed{"http_protocol_error", "the backend does not speak HTTP/2"}
)

// secure puts TLS on c, whose nc is a plain connection.
func (c *conn) secure(ctx context.Context, cfg *tls.Config) error {
	c.gate = &gate{Conn: c.nc}
	over := tls.Client(c.gate, cfg)
	c.nc = over
	if err := over.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS handshake with %s: %w", c.endpoint.target.addr, err)
	}
	if cfg.NextProtos[0] == "h2" && over.ConnectionState().NegotiatedProtocol != "h2" {
		return fmt.Errorf("TLS handshake with %s: %w", c.endpoint.target.addr, errNotH2)
	}
	return nil
}

// refusal returns the alert behind err, the failure of a request's first
// write, or err where there is none.
func (c *conn) refusal(h *head, now time.Duration, err error) error {
	if c.gate == nil {
		return err
	}
	if answer := c.readHead(h, now+parting, parting); alerted(answer) {
		return answer
	}
	return err
}

// alerted reports whether err is an alert of the peer's. A TLS 1.3 server that
// refuses the client's certificate says so after the handshake, in place of
// the answer (RFC 8446, section 4.4.2.4 and appendix E.1.2).
func alerted(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "remote error"
}
