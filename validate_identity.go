package gatehouse

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

func (v *validation) identity(at string, id *Identity) {
	if k := id.APIKeys; k != nil {
		at := at + "/api_keys"
		if k.Header != "" && (!isToken(k.Header) || reservedHeader(k.Header)) {
			v.fault(at+"/header", fmt.Sprintf("header %q cannot carry API keys", clip(k.Header)), "use a name of its own such as X-API-Key")
		}
		keyAt := map[KeyID]string{}
		for i := range k.Keys {
			at := at + Pointer("keys", i)
			v.id(at+"/id", "key", string(k.Keys[i].ID))
			unique(v, keyAt, k.Keys[i].ID, at+"/id", "key")
			v.key(at, &k.Keys[i])
		}
	}
	issuerAt := map[string]string{}
	for i := range id.JWT {
		unique(v, issuerAt, id.JWT[i].Issuer, at+Pointer("jwt", i)+"/issuer", "issuer")
		v.issuer(at+Pointer("jwt", i), &id.JWT[i])
	}
	if c := id.ClientCertificates; c != nil {
		at := at + "/client_certificates"
		if c.CAFile == "" {
			v.fault(at+"/ca_file", "ca_file is missing", "name the PEM file of the authorities that issue the certificates")
		}
		oneOf(v, at+"/principal", "principal", c.Principal, PrincipalCN, PrincipalDNS, PrincipalURI, PrincipalEmail)
	}
	if i := id.Introspection; i != nil {
		v.introspection(at+"/introspection", i)
	}
	v.forward(at+"/forward", &id.Forward)
}

// maxKeyAddresses bounds what is looked through on each use of a key.
const maxKeyAddresses = 64

func (v *validation) key(at string, k *Key) {
	if p := k.Previous; p != nil {
		if p.Hash == k.Hash && p.Hash != (KeyHash{}) {
			v.faults = append(v.faults, Fault{
				Pointer: at + "/previous/hash", Also: at + "/hash",
				Reason: "the previous hash is the key's own", Hint: "previous is the secret that hash has replaced",
			})
		}
		if p.Until.IsZero() {
			v.fault(at+"/previous/until", "until is missing", "say from when the replaced secret is refused")
		}
	}
	if n := len(k.Addresses); n > maxKeyAddresses {
		v.fault(at+"/addresses", fmt.Sprintf("%d addresses are more than %d", n, maxKeyAddresses), "join neighbours into prefixes such as 192.0.2.0/24")
	}
}

// hashes faults key hashes that another key has already. seen is of all
// tenants.
func (v *validation) hashes(at string, t *Tenant, seen map[KeyHash]hashPlace) {
	if t.Identity.APIKeys == nil {
		return
	}
	for i := range t.Identity.APIKeys.Keys {
		k := &t.Identity.APIKeys.Keys[i]
		v.hash(hashPlace{at, i, false}, k.Hash, seen)
		if k.Previous != nil && k.Previous.Hash != k.Hash {
			v.hash(hashPlace{at, i, true}, k.Previous.Hash, seen)
		}
	}
}

func (v *validation) hash(at hashPlace, hash KeyHash, seen map[KeyHash]hashPlace) {
	if hash == (KeyHash{}) {
		v.fault(at.pointer(), "key hash is missing", "gatehouse key new prints one")
		return
	}
	if first, dup := seen[hash]; dup {
		v.faults = append(v.faults, Fault{Pointer: at.pointer(), Also: first.pointer(), Reason: "key hash is used twice", Hint: "make a new key: a key belongs to one tenant"})
		return
	}
	seen[hash] = at
}

// hashPlace is where a hash stands. There may be a million, so the pointer is
// written when it is asked for.
type hashPlace struct {
	tenant   string // pointer
	key      int
	previous bool
}

func (p hashPlace) pointer() string {
	at := p.tenant + Pointer("identity", "api_keys", "keys", p.key)
	if p.previous {
		at += "/previous"
	}
	return at + "/hash"
}

// Bounds of Introspection and Forward.
const (
	maxIntrospectionCache   = time.Hour
	maxIntrospectionTimeout = 30 * time.Second
	maxForwardLifetime      = time.Hour
	minForwardSecret        = 32 // bytes
)

func (v *validation) introspection(at string, i *Introspection) {
	if u, err := url.Parse(i.URL); err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		v.fault(at+"/url", "an http or https URL is expected", "the introspection endpoint of the authorization server")
	} else if u.User != nil || u.Fragment != "" {
		v.fault(at+"/url", "the URL has user information or a fragment", "credentials are client_id and client_secret_file")
	}
	if i.ClientID == "" {
		v.fault(at+"/client_id", "client_id is missing", "the gateway shows it at the endpoint: who is not known there learns nothing")
	}
	if i.ClientSecretFile == "" {
		v.fault(at+"/client_secret_file", "client_secret_file is missing", "name the file of the secret that goes with client_id")
	} else if i.ClientSecret != nil && len(i.ClientSecret) == 0 {
		v.fault(at+"/client_secret_file", "the client secret is empty", "")
	}
	v.within(at+"/cache_for", "cache_for", i.CacheFor, time.Millisecond, maxIntrospectionCache)
	v.within(at+"/timeout", "timeout", i.Timeout, time.Millisecond, maxIntrospectionTimeout)
}

func (v *validation) forward(at string, f *Forward) {
	oneOf(v, at+"/mode", "mode", f.Mode, ForwardHeaders, ForwardSigned, ForwardJWT, ForwardNone)
	if f.Mode != ForwardSigned && f.Mode != ForwardJWT {
		for _, given := range []struct {
			name string
			is   bool
		}{{"key_file", f.KeyFile != ""}, {"key_id", f.KeyID != ""}, {"lifetime", f.Lifetime != 0}} {
			if given.is {
				v.fault(at+"/"+given.name, given.name+" has no effect without mode: signed or mode: jwt", "")
			}
		}
		return
	}
	if f.KeyFile == "" {
		v.fault(at+"/key_file", "key_file is missing", "mode "+string(f.Mode)+" signs; name a private key or a shared secret")
	} else if f.Key != nil {
		if _, err := f.PrivateKey(); err != nil {
			v.fault(at+"/key_file", err.Error(), "openssl genpkey -algorithm ed25519 makes a key")
		}
	}
	for i := range len(f.KeyID) {
		if c := f.KeyID[i]; c <= ' ' || c >= 0x7f || c == '"' || c == '\\' || len(f.KeyID) > 128 {
			v.fault(at+"/key_id", fmt.Sprintf("key id %q is not of at most 128 visible ASCII characters without quotes and backslashes", clip(f.KeyID)), "")
			break
		}
	}
	v.within(at+"/lifetime", "lifetime", f.Lifetime, time.Second, maxForwardLifetime)
}

// PrivateKey returns the key that f signs with, Ed25519 or ECDSA P-256, or nil
// where Key is a shared secret. The error says what is wrong with Key, and
// nothing of what is in it.
func (f *Forward) PrivateKey() (crypto.Signer, error) {
	block, _ := pem.Decode(f.Key)
	if block == nil {
		if strings.Contains(string(f.Key), "-----BEGIN") {
			return nil, errors.New("the key file is not PEM that can be read")
		}
		if n := len(f.Key); n < minForwardSecret {
			return nil, fmt.Errorf("the key file has %d bytes; a shared secret has at least %d", n, minForwardSecret)
		}
		return nil, nil
	}
	if block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("the key file holds a PEM block of type %q; PRIVATE KEY (PKCS #8) is expected", clip(block.Type))
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("the private key cannot be parsed")
	}
	switch key := key.(type) {
	case ed25519.PrivateKey:
		return key, nil
	case *ecdsa.PrivateKey:
		if key.Curve == elliptic.P256() {
			return key, nil
		}
	}
	return nil, errors.New("the private key is neither Ed25519 nor ECDSA P-256")
}

// credentials checks what a route asks of its callers against what the tenant
// takes.
func (v *validation) credentials(at string, r *Route, id *Identity) {
	if len(r.AnyOf) > 0 && len(r.AllOf) > 0 {
		v.fault(at+"/all_of", "any_of and all_of exclude each other", "")
	}
	if slices.Contains(r.AllOf, CredentialJWT) && slices.Contains(r.AllOf, CredentialOpaque) {
		v.fault(at+"/all_of", "jwt and opaque exclude each other", "a request has one token")
	}
	if len(r.AllOf) == 1 {
		v.fault(at+"/all_of", "all_of has one credential", "name at least two, or use any_of")
	}
	takes := map[Credential]bool{
		CredentialKey: id.APIKeys != nil, CredentialJWT: len(id.JWT) > 0,
		CredentialOpaque: id.Introspection != nil, CredentialCertificate: id.ClientCertificates != nil,
	}
	turnOn := map[Credential]string{
		CredentialKey: "api_keys", CredentialJWT: "jwt", CredentialOpaque: "introspection", CredentialCertificate: "client_certificates",
	}
	for _, given := range []struct {
		name string
		list []Credential
	}{{"any_of", r.AnyOf}, {"all_of", r.AllOf}} {
		if len(given.list) > 0 && r.Auth == AuthNone {
			v.fault(at+"/"+given.name, given.name+" has no effect with auth: none", "")
		}
		seen := map[Credential]string{}
		for i, c := range given.list {
			at := at + Pointer(given.name, i)
			oneOf(v, at, "credential", c, CredentialKey, CredentialJWT, CredentialOpaque, CredentialCertificate)
			unique(v, seen, c, at, "credential")
			if on, known := takes[c]; known && !on {
				v.fault(at, fmt.Sprintf("credential %s is not turned on in this tenant", c), "add identity."+turnOn[c])
			} else if c == "" {
				v.fault(at, "credential is missing", "use api_key, jwt, opaque or certificate")
			}
		}
	}
}

// decisions checks a tenant's shadow modules and decision log.
func (v *validation) decisions(at string, p *Policy) {
	if len(p.Log.Mask) > 0 && p.Log.Sample == 0 {
		v.fault(at+"/log/mask", "mask has no effect without sample", "say which share of the allowed requests is kept, such as 1%")
	}
	for i, pointer := range p.Log.Mask {
		if !isPointer(pointer) {
			v.fault(at+Pointer("log", "mask", i), fmt.Sprintf("%q is not a JSON Pointer", clip(pointer)), "write a part of input such as /principal/claims/email (RFC 6901)")
		}
	}
}

// isPointer reports whether s names a part of an object (RFC 6901), not the
// whole.
func isPointer(s string) bool {
	if s == "" || s[0] != '/' {
		return false
	}
	for i := range len(s) {
		if s[i] == '~' && (i+1 == len(s) || s[i+1] != '0' && s[i+1] != '1') {
			return false
		}
	}
	return true
}

// reservedHeader lists the fields whose meaning is fixed: a credential there
// would be read, or removed, as something else.
func reservedHeader(name string) bool {
	switch strings.ToLower(name) {
	case "host", "connection", "content-length", "transfer-encoding", "te", "trailer", "upgrade",
		"keep-alive", "proxy-connection", "content-type", "x-real-ip",
		"cookie", "expect", "forwarded", "via", "authorization", "proxy-authorization", "x-request-id", "traceparent":
		return true
	}
	name = strings.ToLower(name)
	return strings.HasPrefix(name, "x-gatehouse-") || strings.HasPrefix(name, "x-forwarded-")
}

var (
	asymmetric = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
	symmetric  = []string{"HS256", "HS384", "HS512"}
)

func (v *validation) issuer(at string, s *Issuer) {
	if s.Issuer == "" {
		v.fault(at+"/issuer", "issuer is missing", "it equals the iss claim of its tokens")
	}
	if len(s.Audience) == 0 {
		v.fault(at+"/audience", "audience is missing", "name at least one value of aud: a token made for another API must not pass")
	}
	if len(s.Algorithms) == 0 {
		v.fault(at+"/algorithms", "algorithms are missing", "allow what the issuer signs with, such as [RS256]")
	}
	for i, alg := range s.Algorithms {
		at := at + Pointer("algorithms", i)
		switch {
		case slices.Contains(symmetric, alg):
			if s.SecretFile == "" {
				v.fault(at, fmt.Sprintf("algorithm %s needs secret_file", alg), "a public key must never be used as a shared secret")
			}
		case slices.Contains(asymmetric, alg):
			if s.SecretFile != "" {
				v.fault(at, fmt.Sprintf("algorithm %s does not work with secret_file", alg), "use jwks_file or jwks_url, or HS256, HS384 or HS512")
			}
		default:
			hint := ""
			if near := Nearest(alg, slices.Concat(asymmetric, symmetric)); near != "" {
				hint = fmt.Sprintf("did you mean %q?", near)
			}
			v.fault(at, fmt.Sprintf("algorithm %q is not accepted", clip(alg)), hint)
		}
	}
	oneOf(v, at+"/profile", "profile", s.Profile, ProfileJWT, ProfileAccessToken)
	given := 0
	for _, source := range []string{s.JWKSFile, s.JWKSURL, s.SecretFile} {
		if source != "" {
			given++
		}
	}
	if given != 1 {
		v.fault(at, "exactly one of jwks_file, jwks_url and secret_file is expected", "")
	}
	if s.JWKSURL != "" {
		at := at + "/jwks_url"
		switch u, err := url.Parse(s.JWKSURL); {
		case err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http"):
			v.fault(at, "an http or https URL is expected", "")
		case u.User != nil || u.Fragment != "":
			v.fault(at, "the URL has user information or a fragment", "a key set is public: it is fetched without credentials")
		case u.Scheme == "http" && !loopback(u.Hostname()):
			v.faults = append(v.faults, Fault{
				Pointer: at, Warning: true, Reason: "the key set is fetched in the clear",
				Hint: "use https: who changes the keys on the way makes tokens that are accepted",
			})
		}
	}
	if need := minSecret(s.Algorithms); s.Secret != nil && len(s.Secret) < need {
		v.fault(at+"/secret_file", fmt.Sprintf("the secret has %d bytes; at least %d are needed", len(s.Secret), need), "RFC 7518, section 3.2: a key as long as the hash")
	}
}

// loopback reports whether a host name or address is of this machine.
func loopback(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Unmap().IsLoopback()
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// minSecret is the longest hash among algs, in bytes.
func minSecret(algs []string) int {
	need := 0
	for _, alg := range algs {
		if bits, err := strconv.Atoi(strings.TrimPrefix(alg, "HS")); err == nil {
			need = max(need, bits/8)
		}
	}
	return need
}
