package edge

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
)

// TLSConfig says how TLS is terminated.
type TLSConfig struct {
	// Folder holds the certificates: pairs of NAME.crt, PEM with the chain,
	// and NAME.key. A pair serves the DNS names in its certificate; the pair
	// "default", if there is one, serves all others. A reload applies changes.
	Folder string
	// Host finds the tenant of a name, in lower case, as asked for by SNI. It
	// is called in each handshake for a name that has a certificate, from many
	// goroutines, and must not block. Nil: no name has a tenant.
	Host func(serverName string) (Tenant, bool)
	// Log takes faults of certificates and what became of them; never keys.
	// Nil: nothing is logged.
	Log *slog.Logger
}

// Tenant is what a tenant asks of TLS at its names.
type Tenant struct {
	// ID tells tenants apart.
	ID string
	// MinVersion is tls.VersionTLS12 or higher. Below that: tls.VersionTLS12.
	MinVersion uint16
	// ClientCAs verify certificates of clients, which are asked for one when
	// this is not nil. It must not change any more.
	ClientCAs *x509.CertPool
	// ClientAuth refuses clients without a certificate. With no ClientCAs
	// that is every client.
	ClientAuth bool
}

// TLS terminates TLS for listeners. Its methods are safe for concurrent use.
type TLS struct {
	folder  string
	host    func(string) (Tenant, bool)
	log     *slog.Logger
	entry   *tls.Config // what every handshake begins with, and ends with where there is no certificate
	shelf   atomic.Pointer[shelf]
	configs configs

	mu    sync.Mutex // guards the rest, and the writing of shelf
	pairs map[string]*pair
}

// NewTLS reads the certificates. The error names every pair with a fault, and
// a folder without any pair.
func NewTLS(cfg TLSConfig) (*TLS, error) {
	t := &TLS{folder: cfg.Folder, host: cfg.Host, log: cfg.Log}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	if err := t.Reload(); err != nil {
		return nil, err
	}
	t.entry = &tls.Config{
		MinVersion: tls.VersionTLS12, GetConfigForClient: t.choose, GetCertificate: t.certificate,
		// TLS 1.3 looks for a certificate only where it does not resume, so a
		// ticket must not get a client past the want of one.
		SessionTicketsDisabled: true,
	}
	t.configs.certificate = t.certificate
	t.configs.rotate()
	return t, nil
}

// choose returns the configuration of the client's name.
func (t *TLS) choose(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	name := strings.ToLower(hello.ServerName)
	lower, _ := hello.Conn.(*lower)
	if lower != nil {
		lower.name = name
	}
	if !t.shelf.Load().has(name) {
		if lower != nil {
			lower.unknown = true
		}
		return nil, nil // entry goes on, and fails
	}
	k := settings{http2: lower != nil && lower.ln.cfg.HTTP2}
	if t.host != nil && name != "" {
		if tenant, ok := t.host(name); ok {
			k.Tenant = tenant
		}
	}
	k.MinVersion = max(k.MinVersion, tls.VersionTLS12)
	return t.configs.of(k), nil
}

// certificate returns nil, and TLS sends unrecognized_name, where there is no
// certificate for the client's name.
func (t *TLS) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return t.shelf.Load().find(strings.ToLower(hello.ServerName), hello), nil
}

// settings are what configurations differ by.
type settings struct {
	Tenant
	http2 bool
}

const (
	// configLimit bounds the tenants whose configurations are kept. Others
	// are built again, and resume no session of clients with certificates.
	configLimit = 1 << 14
	// configVersions bounds those of one tenant: its names may differ, and
	// while a change goes live the old settings and the new are in use.
	configVersions = 4
)

// configs keeps a configuration for each settings in use.
type configs struct {
	certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)

	mu      sync.Mutex // guards the rest
	tickets tickets
	kept    map[string][]*kept // by tenant; the oldest first
}

type kept struct {
	settings
	salt   []byte
	config *tls.Config
}

// of returns the configuration of s.
func (c *configs) of(s settings) *tls.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	versions := c.kept[s.ID]
	var salt []byte
	for _, k := range versions {
		if k.settings == s {
			return k.config
		}
		if s.ClientCAs != nil && k.ClientCAs != nil && k.ClientCAs.Equal(s.ClientCAs) {
			salt = k.salt
		}
	}
	k := &kept{settings: s, salt: salt}
	if s.ClientCAs != nil && salt == nil {
		k.salt = newSalt()
	}
	k.config = c.build(s)
	k.config.SetSessionTicketKeys(c.tickets.keys(k))
	if len(versions) >= configVersions {
		versions = versions[1:]
	}
	if len(versions) == 0 && len(c.kept) >= configLimit {
		for id := range maps.Keys(c.kept) { // any one
			delete(c.kept, id)
			break
		}
	}
	c.kept[s.ID] = append(versions[:len(versions):len(versions)], k)
	return k.config
}

func (c *configs) build(s settings) *tls.Config {
	config := &tls.Config{
		MinVersion: s.MinVersion, GetCertificate: c.certificate,
		NextProtos: []string{HTTP1},
	}
	if s.http2 {
		config.NextProtos = []string{HTTP2, HTTP1}
	}
	switch {
	case s.ClientAuth:
		config.ClientAuth = tls.RequireAndVerifyClientCert
		// No pool would mean the authorities of the system.
		config.ClientCAs = cmp.Or(s.ClientCAs, x509.NewCertPool())
	case s.ClientCAs != nil:
		config.ClientAuth = tls.VerifyClientCertIfGiven
		config.ClientCAs = s.ClientCAs
	}
	return config
}

// rotate replaces the newest ticket key, in configurations in use too.
func (c *configs) rotate() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kept == nil {
		c.kept = map[string][]*kept{}
	}
	c.tickets.rotate()
	for _, versions := range c.kept {
		for _, k := range versions {
			k.config.SetSessionTicketKeys(c.tickets.keys(k))
		}
	}
}
