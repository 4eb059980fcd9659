package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/proxy"
)

// missing returns what the configuration needs on this machine and does not
// find: files and folders. Nothing is made.
func (c *config) missing() gatehouse.Faults {
	var fs gatehouse.Faults
	fault := func(at string, err error, hint string) {
		if err != nil {
			fs = append(fs, gatehouse.Fault{Pointer: at, Reason: err.Error(), Hint: hint})
		}
	}
	m := c.mode()
	if info, err := os.Stat(c.Data); err == nil && !info.IsDir() {
		fault("/data", fmt.Errorf("%s is a file", c.Data), "name a folder: it is made where it is missing")
	}
	if t := c.Control.TLS; t.Cert != "" && t.Key != "" {
		_, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		at := "/control/tls/cert"
		if file, ok := errors.AsType[*os.PathError](err); ok && file.Path == t.Key && t.Key != t.Cert {
			at = "/control/tls/key"
		}
		fault(at, readable(err), "")
	}
	if m == modeProxy {
		token, err := os.ReadFile(c.Control.TokenFile)
		if err == nil && strings.TrimSpace(string(token)) == "" {
			err = errors.New(c.Control.TokenFile + " is empty")
		}
		fault("/control/token_file", readable(err), "gatehouse token create --role gateway makes a token")
		if c.Control.CAFile != "" {
			_, err := newTransport(c.Control.CAFile)
			fault("/control/ca_file", readable(err), "")
		}
		if c.Control.SnapshotKeyFile != "" {
			_, err := readKey(c.Control.SnapshotKeyFile)
			fault("/control/snapshot_key_file", readable(err), "")
		}
	}
	if (m == modeStore || m == modeControl) && c.Store.SecretKeyFile != "" {
		_, err := readKey(c.Store.SecretKeyFile)
		fault("/store/secret_key_file", readable(err), "the store is of no use without its key; openssl rand -base64 32 makes one for a new store")
	}
	if m == modeControl {
		return fs
	}
	if folder := c.Proxy.TLS.Certificates; folder != "" {
		fault("/proxy/tls/certificates", isFolder(folder), "make it, with NAME.crt and NAME.key")
	}
	if name := c.Log.Access; !slices.Contains([]string{"stdout", "off", ""}, strings.ToLower(name)) {
		fault("/log/access", isFolder(filepath.Dir(name)), "make the folder of the access log")
		if info, err := os.Stat(name); err == nil && info.IsDir() {
			fault("/log/access", errors.New(name+" is a folder"), "name a file")
		}
	}
	return fs
}

// readable is an error of a file as the place of a setting has it.
func readable(err error) error {
	if file, ok := errors.AsType[*os.PathError](err); ok {
		return fmt.Errorf("%s: cannot be read: %w", file.Path, file.Err)
	}
	return err
}

// everyone tells of a network that every address is in.
func everyone(n netip.Prefix) bool { return n.Bits() == 0 }

func isFolder(name string) error {
	info, err := os.Stat(name)
	if err == nil && !info.IsDir() {
		return errors.New(name + " is no folder")
	}
	return readable(err)
}

// surprises returns warnings: settings that have no effect in this process, or
// another one than it seems.
func (c *config) surprises() gatehouse.Faults {
	var fs gatehouse.Faults
	warn := func(is bool, at, reason, hint string) {
		if is {
			fs = append(fs, gatehouse.Fault{Pointer: at, Reason: reason, Hint: hint, Warning: true})
		}
	}
	m := c.mode()
	if i := c.Metering.ledger(); m == modeProxy && i >= 0 && c.Metering.Sinks[i].Kind == kindSQLite {
		warn(true, fmt.Sprintf("/metering/sinks/%d/kind", i), "this ledger has the usage of this data plane alone, and no other process reads it", "leave it out: usage goes to the control plane's ledger anyway; or name a PostgreSQL that both know")
	}
	store := "no store is opened in this process: its tenants come from documents"
	if m == modeProxy {
		store = "no store is opened in this process: its tenants come from control.url"
	}
	unopened := m == modeFiles || m == modeProxy
	warn(unopened && c.Store.URL != defaultStore, "/store/url", store, "leave it out")
	warn(unopened && c.Store.SecretKeyFile != "", "/store/secret_key_file", store, "leave it out")
	for _, k := range []struct{ key, value string }{
		{"token_file", c.Control.TokenFile}, {"ca_file", c.Control.CAFile}, {"gateway", c.Control.Gateway}, {"snapshot_key_file", c.Control.SnapshotKeyFile},
	} {
		warn(m != modeProxy && k.value != "", "/control/"+k.key, "this process follows no other control plane: "+k.key+" has no effect", "leave it out, or use roles [proxy] and control.url")
	}
	data := c.Proxy
	if slices.ContainsFunc(data.UpstreamAllow, everyone) {
		data.UpstreamAllow = nil // which is the default
	}
	warn(m == modeControl && fmt.Sprint(data) != fmt.Sprint(proxy.DefaultConfig()), "/proxy", "this process serves no tenant: its data planes have settings of their own", "leave it out")
	warn(m == modeControl && c.Limits.Redis != "", "/limits/redis", "this process counts no limits: its data planes do", "leave it out, and set it at the data planes")
	warn(c.Proxy.TrustedHeader != proxy.DefaultConfig().TrustedHeader && len(c.Proxy.TrustedProxies) == 0, "/proxy/trusted_header", "the field is read of trusted proxies only, and there are none", "name their networks in proxy.trusted_proxies")
	for i, n := range c.Proxy.TrustedProxies {
		warn(everyone(n), gatehouse.Pointer("proxy", "trusted_proxies", i), "every client is believed when it says what its address is", "name the networks of your proxies")
	}
	return fs
}
