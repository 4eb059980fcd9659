package main

import (
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/configs"
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
	// Tenants is a file or folder of tenant documents.
	Tenants   string        `json:"tenants"`
	Proxy     proxy.Config  `json:"proxy"`
	Control   controlConfig `json:"control"`
	Store     storeConfig   `json:"store"`
	Limits    limitsConfig  `json:"limits"`
	Metering  meterConfig   `json:"metering"`
	Log       logConfig     `json:"log"`
	Telemetry otlpConfig    `json:"telemetry"`
}

type controlConfig struct {
	// Listen is the address of the control API. Default 127.0.0.1:9090.
	Listen string `json:"listen"`
	// URL is where a process without the control role finds one.
	URL       string `json:"url"`
	TokenFile string `json:"token_file"`
}

type storeConfig struct {
	URL string `json:"url"`
}

type limitsConfig struct {
	Redis string `json:"redis"`
	// Mode is exact or lease, of a shared store.
	Mode string `json:"mode"`
	// Headers is ietf (default), draft03, x or off.
	Headers proxy.HeaderStyle `json:"headers"`
}

type meterConfig struct {
	// Flush is the time between two writes of the counters. Default 1s.
	Flush gatehouse.Duration `json:"flush"`
	Sinks []sinkConfig       `json:"sinks"`
}

type sinkConfig struct {
	Kind string `json:"kind"`
	URL  string `json:"url"`
}

type logConfig struct {
	// Level is debug, info (default), warn or error.
	Level slog.Level `json:"level"`
	// Access is stdout (default), off, or the name of a file to append to.
	Access string `json:"access"`
}

type otlpConfig struct {
	OTLP string `json:"otlp"`
}

const defaultStore = "sqlite:gatehouse.db"

func defaultConfig() config {
	return config{
		Data: "./gatehouse-data", Roles: []string{"proxy", "control"}, Proxy: proxy.DefaultConfig(),
		Control: controlConfig{Listen: "127.0.0.1:9090"}, Store: storeConfig{URL: defaultStore},
		Limits:   limitsConfig{Mode: "lease", Headers: proxy.HeadersIETF},
		Metering: meterConfig{Flush: gatehouse.Duration(metering.DefaultFlush)}, Log: logConfig{Access: "stdout"},
	}
}

// readConfig reads the process configuration; "" stands for the defaults.
// The error holds every problem with its place.
func readConfig(path string) (config, error) {
	cfg := defaultConfig()
	if path == "" {
		return cfg, nil
	}
	source, err := os.ReadFile(path)
	if err != nil {
		return cfg, fmt.Errorf("read configuration: %w", err)
	}
	text, problems := configs.Decode(path, source, &cfg)
	if len(problems) == 0 {
		problems = text.Locate(cfg.validate())
	}
	if len(problems) > 0 {
		return cfg, problems
	}
	return cfg, nil
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
	}
	both := slices.Contains(c.Roles, "proxy") && slices.Contains(c.Roles, "control")
	fault(!both, "/roles", "a process with one role only is not available yet", "use [proxy, control]")
	fault(c.Data == "", "/data", "data is empty", "name a folder")
	fault(c.Proxy.Listen == "", "/proxy/listen", "listen is empty", "use host:port")
	fault(c.Control.Listen == "", "/control/listen", "listen is empty", "use host:port")
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
	fault(c.Limits.Mode != "lease" && c.Limits.Mode != "exact", "/limits/mode", fmt.Sprintf("mode %q is unknown", c.Limits.Mode), "use exact or lease")

	const later = "is not available yet"
	fault(c.Control.URL != "", "/control/url", "a remote control plane "+later, "leave it out")
	fault(c.Control.TokenFile != "", "/control/token_file", "a remote control plane "+later, "leave it out")
	fault(c.Store.URL != defaultStore, "/store/url", "a store "+later, "leave it out: tenants come from files")
	fault(c.Limits.Mode == "exact", "/limits/mode", "mode exact belongs to a shared store, which "+later, "leave it out")
	fault(c.Limits.Redis != "", "/limits/redis", "a shared store of limits "+later, "leave it out: limits are held in the process")
	fault(len(c.Metering.Sinks) > 0, "/metering/sinks", "a usage sink "+later, "leave it out: usage is kept under data")
	fault(c.Telemetry.OTLP != "", "/telemetry/otlp", "OpenTelemetry "+later, "leave it out")
	return fs
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
