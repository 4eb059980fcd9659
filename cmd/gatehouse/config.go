package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/client"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/proxy"
)

// config is the process configuration: configs/gatehouse.yaml is its reference
// by example. It is read once, at the start; a reload applies none of it.
type config struct {
	// Data is the folder of everything the process keeps. Default
	// ./gatehouse-data.
	Data string `json:"data"`
	// Roles are proxy and control. Default both.
	Roles []string `json:"roles"`
	// Tenants is a file or folder of tenant documents. Default none: they are
	// kept in the store.
	Tenants   string        `json:"tenants"`
	Proxy     proxy.Config  `json:"proxy"`
	Control   controlConfig `json:"control"`
	Store     storeConfig   `json:"store"`
	Limits    limitsConfig  `json:"limits"`
	Metering  meterConfig   `json:"metering"`
	Memory    memoryConfig  `json:"memory"`
	Log       logConfig     `json:"log"`
	Telemetry otlpConfig    `json:"telemetry"`
}

type controlConfig struct {
	// Listen is the address of the control API. Default 127.0.0.1:9090. One
	// beyond loopback needs TLS.
	Listen string `json:"listen"`
	// TLS is how the control API is served beyond loopback.
	TLS controlTLS `json:"tls"`
	// URL is where a process without the control role finds one.
	URL string `json:"url"`
	// TokenFile holds a token of the role gateway, for URL.
	TokenFile string `json:"token_file"`
	// CAFile holds the certificates that URL's may be signed by. Default: the
	// system's.
	CAFile string `json:"ca_file"`
	// Gateway names this data plane to the control plane. Default: the host.
	Gateway string `json:"gateway"`
	// SnapshotKeyFile holds 32 bytes in base64 that encrypt the snapshots of a
	// data plane. Default none: they are not encrypted.
	SnapshotKeyFile string `json:"snapshot_key_file"`
}

// controlTLS names the files of a certificate, in PEM; SIGHUP reads them
// again.
type controlTLS struct {
	Cert string `json:"cert"`
	Key  string `json:"key"`
}

type storeConfig struct {
	// URL is sqlite:FILE, below data, or postgres://…. Default
	// sqlite:gatehouse.db.
	URL string `json:"url"`
	// SecretKeyFile holds 32 bytes in base64 that encrypt what tenants'
	// documents name as secrets. Default: secrets.key below data, made at the
	// first start.
	SecretKeyFile string `json:"secret_key_file"`
}

// mode is what a process does, and where its tenants come from.
type mode int

const (
	modeFiles   mode = iota // both planes, tenants from documents
	modeStore               // both planes, tenants from the store
	modeProxy               // the data plane of a control plane elsewhere
	modeControl             // the control plane of data planes elsewhere
)

func (c *config) mode() mode {
	proxy, control := slices.Contains(c.Roles, "proxy"), slices.Contains(c.Roles, "control")
	switch {
	case proxy && !control:
		return modeProxy
	case control && !proxy:
		return modeControl
	case c.Tenants != "":
		return modeFiles
	}
	return modeStore
}

type memoryConfig struct {
	// HugePages is auto (default): the heap is asked for in pages of 2 MiB
	// where Linux leaves that to each process; or off.
	HugePages string `json:"huge_pages"`
}

const (
	hugePagesAuto = "auto"
	hugePagesOff  = "off"
)

type logConfig struct {
	// Level is debug, info (default), warn or error.
	Level logLevel `json:"level"`
	// Access is stdout (default), off, or the name of a file to append to.
	Access string `json:"access"`
}

// logLevel is a level that only has the names that the reference has.
type logLevel slog.Level

func (l logLevel) Level() slog.Level { return slog.Level(l) }

func (l *logLevel) UnmarshalText(text []byte) error {
	if (*slog.Level)(l).UnmarshalText(text) != nil {
		return errors.New("debug, info, warn or error is expected")
	}
	return nil
}

// noFiles are words for log.access that somebody means as something else than
// the name of a file.
var noFiles = []string{"stderr", "none", "no", "false", "yes", "true", "on"}

type otlpConfig struct {
	OTLP string `json:"otlp"`
}

const defaultStore = "sqlite:gatehouse.db"

func defaultConfig() config {
	return config{
		Data: "./gatehouse-data", Roles: []string{"proxy", "control"}, Proxy: proxy.DefaultConfig(),
		Control: controlConfig{Listen: "127.0.0.1:9090"}, Store: storeConfig{URL: defaultStore},
		Limits:   limitsConfig{Mode: gatehouse.StoreLease, Headers: proxy.HeadersIETF, Options: defaultRedis()},
		Metering: meterConfig{Flush: gatehouse.Duration(metering.DefaultFlush), Log: metering.DefaultLog, OnFull: countInMemory},
		Memory:   memoryConfig{HugePages: hugePagesAuto}, Log: logConfig{Access: "stdout"},
	}
}

// validate returns what is wrong with the values, and refuses what is not
// there yet: a setting without effect would be believed.
func (c *config) validate() gatehouse.Faults {
	var fs gatehouse.Faults
	fault := func(bad bool, at, reason, hint string) {
		if bad {
			fs = append(fs, gatehouse.Fault{Pointer: at, Reason: reason, Hint: hint})
		}
	}
	for i, r := range c.Roles {
		fault(r != "proxy" && r != "control", gatehouse.Pointer("roles", i), fmt.Sprintf("role %q is unknown", r), "use proxy and control")
		fault(slices.Index(c.Roles, r) < i, gatehouse.Pointer("roles", i), fmt.Sprintf("role %q stands twice", r), "")
	}
	fault(len(c.Roles) == 0, "/roles", "roles is empty", "use [proxy, control]")
	huge := c.Memory.HugePages
	fault(huge != hugePagesAuto && huge != hugePagesOff, "/memory/huge_pages", fmt.Sprintf("huge_pages %q is unknown", huge), "use auto or off")
	fault(c.Data == "", "/data", "data is empty", "name a folder")
	fault(slices.Contains(noFiles, strings.ToLower(c.Log.Access)), "/log/access", fmt.Sprintf("access %q is unknown", c.Log.Access), "use stdout, off, or the name of a file with its folder, such as ./"+c.Log.Access)
	for i, d := range c.Proxy.PlatformDomains {
		reason := gatehouse.HostFault(d.Host)
		fault(reason != "", gatehouse.Pointer("proxy", "platform_domains", i), fmt.Sprintf("host %q %s", d.Host, reason), "")
	}
	l := c.Proxy.Limits
	fault(l.HeaderBytes < 1<<10 || l.HeaderBytes > 1<<20, "/proxy/limits/header_bytes", "header_bytes is outside 1KiB to 1MiB", "")
	fault(l.Body < 1, "/proxy/limits/body", "body must be at least one byte", "")
	fault(l.Connections < 1, "/proxy/limits/connections", "connections must be at least 1", "")
	fault(l.PerAddress < 0, "/proxy/limits/per_address", "per_address must not be negative", "0 means no bound")
	fault(l.Handshakes < 1, "/proxy/limits/handshakes", "handshakes must be at least 1", "")
	fault(l.PerTenant.Requests < 1, "/proxy/limits/per_tenant/requests", "requests must be at least 1", "")
	fault(l.PerTenant.Queue < 0, "/proxy/limits/per_tenant/queue", "queue must not be negative", "0 means that none may wait")
	fault(l.PerTenant.Tunnels < 0, "/proxy/limits/per_tenant/tunnels", "tunnels must not be negative", "")
	fault(c.Proxy.HTTP2.Streams < 1 || c.Proxy.HTTP2.Streams > 10000, "/proxy/http2/streams", "streams is outside 1 to 10000", "")
	t := c.Proxy.TLS
	fault(t.Listen != "" && t.Certificates == "", "/proxy/tls/certificates", "certificates is missing", "name a folder of NAME.crt and NAME.key")
	fault(t.Listen == "" && t.Certificates != "", "/proxy/tls/listen", "listen is missing", "use host:port, such as 127.0.0.1:8443")

	const later = "is not available yet"
	fs = append(fs, c.validateAddresses()...)
	fs = append(fs, c.validateControl()...)
	fs = append(fs, c.Limits.validate()...)
	fs = append(fs, c.Metering.validate(c.mode() != modeControl)...)
	fault(c.Telemetry.OTLP != "", "/telemetry/otlp", "OpenTelemetry "+later, "leave it out")
	return fs
}

// validateControl returns what is wrong with the control plane, of this process
// or elsewhere.
func (c *config) validateControl() gatehouse.Faults {
	var fs gatehouse.Faults
	fault := func(bad bool, at, reason, hint string) {
		if bad {
			fs = append(fs, gatehouse.Fault{Pointer: at, Reason: reason, Hint: hint})
		}
	}
	t := c.Control.TLS
	fault(t.Cert != "" && t.Key == "", "/control/tls/key", "key is missing", "name the file of the certificate's key")
	fault(t.Cert == "" && t.Key != "", "/control/tls/cert", "cert is missing", "name the file of the certificate")
	fault(!strings.HasPrefix(c.Store.URL, sqliteScheme) && !isPostgres(c.Store.URL), "/store/url", "the store is unknown", "use sqlite:FILE or postgres://user@host/db")
	fault(c.Store.URL == sqliteScheme, "/store/url", "the file is missing", "use sqlite:gatehouse.db")
	remote := c.mode() == modeProxy
	fault(remote && c.Control.URL == "", "/control/url", "control.url is missing", "say where the control plane is, such as https://control.example.com:9090")
	fault(remote && c.Control.TokenFile == "", "/control/token_file", "control.token_file is missing", "name a file with a token of the role gateway: gatehouse token create --role gateway")
	fault(c.Tenants != "" && len(c.Roles) > 0 && c.mode() != modeFiles, "/tenants", "tenants from documents need both roles in one process", "leave tenants out, or use roles [proxy, control]")
	if c.Control.URL != "" {
		u, err := url.Parse(c.Control.URL)
		plain := err == nil && u.Scheme == "http" && !client.IsLocal(u.Host)
		fault(err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http", "/control/url", "this is not a URL", "use https://host:port")
		fault(plain, "/control/url", "the token would be sent in clear", "use https, or an address of this machine")
		fault(!remote && len(c.Roles) > 0, "/control/url", "this process has a control plane of its own", "leave url out, or use roles [proxy]")
	}
	return fs
}

const sqliteScheme = "sqlite:"

func isPostgres(address string) bool {
	return strings.HasPrefix(address, "postgres://") || strings.HasPrefix(address, "postgresql://")
}

// openAccess opens the access log; the file is nil where there is none to close.
func (c *logConfig) openAccess(s *streams) (w interface{ Write([]byte) (int, error) }, file *os.File, err error) {
	switch strings.ToLower(c.Access) {
	case "stdout":
		return s.out, nil, nil
	case "off", "":
		return nil, nil, nil
	}
	file, err = os.OpenFile(c.Access, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("open access log: %w", err)
	}
	return file, file, nil
}
