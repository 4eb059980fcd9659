package gatehouse

import "time"

// Identity says how the callers of a tenant prove who they are.
type Identity struct {
	// APIKeys turns API keys on.
	APIKeys *APIKeys `json:"api_keys,omitempty"`
	// JWT lists the issuers whose bearer tokens are accepted, found by the
	// token's iss, never by trying.
	JWT []Issuer `json:"jwt,omitempty"`
	// ClientCertificates turns TLS client certificates on: callers of the
	// tenant's hosts are asked for one in the handshake.
	ClientCertificates *ClientCertificates `json:"client_certificates,omitempty"`
	// Introspection accepts opaque bearer tokens, which are asked for at the
	// authorization server that issued them (RFC 7662).
	Introspection *Introspection `json:"introspection,omitempty"`
	// Forward says how backends learn who the caller is.
	Forward Forward `json:"forward,omitzero"`
}

// Credential is a kind of credential, as Route.AnyOf and Route.AllOf name it.
type Credential string

// The kinds of credentials.
const (
	// CredentialKey is an API key.
	CredentialKey Credential = "api_key"
	// CredentialJWT is a JSON Web Token of one of Identity.JWT.
	CredentialJWT Credential = "jwt"
	// CredentialOpaque is a token that Identity.Introspection knows.
	CredentialOpaque Credential = "opaque"
	// CredentialCertificate is a TLS client certificate.
	CredentialCertificate Credential = "certificate"
)

// Introspection is the endpoint that tells who an opaque token stands for
// (RFC 7662). A bearer token that has the form of a JSON Web Token is not sent
// there.
type Introspection struct {
	// URL of the endpoint, http or https.
	URL string `json:"url"`
	// ClientID and ClientSecretFile are what the gateway shows there by HTTP
	// Basic. The file is relative to the document's; one trailing newline is
	// cut.
	ClientID         string `json:"client_id"`
	ClientSecretFile string `json:"client_secret_file"`
	// Issuer must equal the answer's iss, if it has one. Default: any.
	Issuer string `json:"issuer,omitempty"`
	// Audience lists values of which the answer's aud holds at least one.
	// Default: any, and none.
	Audience []string `json:"audience,omitempty"`
	// CacheFor bounds the time for which an answer is kept, active or not; a
	// token is never accepted past its exp. A revoked token may pass for as
	// long. Default 30s.
	CacheFor Duration `json:"cache_for,omitzero"`
	// Timeout bounds the wait for an answer, after which the request gets
	// 503. Default 2s.
	Timeout Duration `json:"timeout,omitzero"`
	// TenantClaim and RolesClaim are as in Issuer.
	TenantClaim string `json:"tenant_claim,omitempty"`
	RolesClaim  string `json:"roles_claim,omitempty"`

	// ClientSecret is the content of ClientSecretFile, put in by the reader.
	ClientSecret Secret `json:"-"`
}

// Defaults of Introspection.
const (
	DefaultIntrospectionCache   = 30 * time.Second
	DefaultIntrospectionTimeout = 2 * time.Second
)

// Forward says how backends learn who the caller is. What clients send under
// the same names never reaches them.
type Forward struct {
	// Mode is headers (default), signed, jwt or none.
	Mode ForwardMode `json:"mode,omitempty"`
	// KeyFile signs: a private key, PEM (PKCS #8, Ed25519 or ECDSA P-256), or
	// at least 32 bytes of a shared secret. It is relative to the document's
	// file.
	KeyFile string `json:"key_file,omitempty"`
	// KeyID is told to backends beside a signature. Default: the tenant's id.
	KeyID string `json:"key_id,omitempty"`
	// Lifetime is how long a signature holds. Default 60s.
	Lifetime Duration `json:"lifetime,omitzero"`
	// Credentials lets the client's own credentials through to backends,
	// beside what Mode says. Default: they are taken off where the gateway has
	// read them.
	Credentials bool `json:"credentials,omitempty"`

	// Key is the content of KeyFile, put in by the reader.
	Key Secret `json:"-"`
}

// ForwardMode is how backends learn who the caller is.
type ForwardMode string

// The values of Forward.Mode.
const (
	// ForwardHeaders sends X-Gatehouse-Tenant, -Principal, -Roles and -Scopes.
	ForwardHeaders ForwardMode = "headers"
	// ForwardSigned sends these with an HTTP message signature over them, the
	// method, the host and the path (RFC 9421).
	ForwardSigned ForwardMode = "signed"
	// ForwardJWT sends X-Gatehouse-Identity, a JSON Web Token of the tenant,
	// with the backend's id as its audience.
	ForwardJWT ForwardMode = "jwt"
	// ForwardNone tells backends nothing.
	ForwardNone ForwardMode = "none"
)

// DefaultForwardLifetime is the default of Forward.Lifetime.
const DefaultForwardLifetime = 60 * time.Second

// ClientCertificates identify callers by TLS (RFC 8446, 4.4.2).
type ClientCertificates struct {
	// CAFile holds the authorities, PEM, relative to the document's file. A
	// certificate of another one ends the handshake.
	CAFile string `json:"ca_file"`
	// Principal is the part of the certificate that names the caller: cn
	// (default), dns, uri or email, the last three from the subject's
	// alternative names, of which there must be exactly one. The principal's
	// id is "cert:" and this.
	Principal string `json:"principal,omitempty"`
	// Roles of every caller with a certificate.
	Roles []string `json:"roles,omitempty"`
	// Required ends the handshake of a caller without one. Default: such a
	// caller goes on, and routes ask for another credential.
	Required bool `json:"required,omitempty"`

	// CA is the text of CAFile, put in by the reader of the document.
	CA string `json:"-"`
}

// The values of ClientCertificates.Principal.
const (
	PrincipalCN    = "cn"
	PrincipalDNS   = "dns"
	PrincipalURI   = "uri"
	PrincipalEmail = "email"
)

// APIKeys are long secrets made by `gatehouse key new`.
type APIKeys struct {
	// Header carries the key. Default X-API-Key.
	Header string `json:"header,omitempty"`
	// Keys that are accepted.
	Keys []Key `json:"keys,omitempty"`
}

// DefaultKeyHeader is the default of APIKeys.Header.
const DefaultKeyHeader = "X-API-Key"

// KeyID names an API key within its tenant. It is shown in records; the
// secret never is.
type KeyID string

// Key is one API key: its hash, never its secret.
type Key struct {
	// ID is unique within the tenant; the principal's id is "key:" and this.
	ID KeyID `json:"id"`
	// Hash is "sha256:" and the SHA-256 of the whole key in hexadecimal. It
	// is unique among all tenants.
	Hash KeyHash `json:"hash"`
	// Roles of the principal.
	Roles []string `json:"roles,omitempty"`
	// Scopes of the principal.
	Scopes []string `json:"scopes,omitempty"`
	// Expires is the RFC 3339 time from which the key is refused. Absent: it
	// does not expire.
	Expires Time `json:"expires,omitzero"`
	// Previous is the secret that Hash has replaced and that is still accepted
	// for a while: a rotation with overlap.
	Previous *PreviousKey `json:"previous,omitempty"`
	// Addresses are those that the key is accepted from. Absent: any.
	Addresses []Prefix `json:"addresses,omitempty"`
}

// PreviousKey is the secret that a key had before.
type PreviousKey struct {
	// Hash is as Key.Hash, and unique in the same way.
	Hash KeyHash `json:"hash"`
	// Until is the RFC 3339 time from which it is refused.
	Until Time `json:"until"`
}

// Issuer is one source of JSON Web Tokens. Exactly one of JWKSFile, JWKSURL
// and SecretFile is given.
type Issuer struct {
	// Issuer equals the token's iss, byte for byte.
	Issuer string `json:"issuer"`
	// Audience lists values of which the token's aud holds at least one.
	Audience []string `json:"audience"`
	// Algorithms allowed: RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384
	// ES512 EdDSA; HS256 HS384 HS512 only with SecretFile.
	Algorithms []string `json:"algorithms"`
	// JWKSFile is a JSON Web Key Set, relative to the document's file. Until
	// it exists the issuer's tokens are refused.
	JWKSFile string `json:"jwks_file,omitempty"`
	// JWKSURL is fetched in the background; tokens are refused until the
	// first fetch succeeds, and a failing refresh keeps the keys at hand.
	JWKSURL string `json:"jwks_url,omitempty"`
	// SecretFile holds the shared secret of HS*, at least as long as the
	// hash, relative to the document's file. One trailing newline is cut.
	SecretFile string `json:"secret_file,omitempty"`
	// TenantClaim names a claim that, where the token has it, must equal the
	// tenant's id.
	TenantClaim string `json:"tenant_claim,omitempty"`
	// RolesClaim holds the principal's roles, a list of strings or one
	// string of them separated by spaces. Default roles.
	RolesClaim string `json:"roles_claim,omitempty"`
	// Profile is jwt (default) or at+jwt. Whatever it is, a token whose typ is
	// at+jwt must have the claims of RFC 9068, and one whose typ is neither
	// that nor JWT, nor absent, is refused.
	Profile Profile `json:"profile,omitempty"`
	// Bound refuses tokens that are not bound to a client certificate
	// (RFC 8705) or a DPoP key (RFC 9449). Default: those that are bound are
	// held to it, and others pass.
	Bound bool `json:"bound,omitempty"`

	// JWKS is the text of JWKSFile, put in by the reader of the document.
	JWKS string `json:"-"`
	// Secret is the content of SecretFile, put in by the reader.
	Secret Secret `json:"-"`
}

// Profile is what an issuer's tokens must be.
type Profile string

// The values of Issuer.Profile.
const (
	// ProfileJWT takes any JSON Web Token with iss, aud and exp.
	ProfileJWT Profile = "jwt"
	// ProfileAccessToken takes access tokens of RFC 9068 only: typ at+jwt, and
	// iss, exp, aud, sub, client_id, iat and jti.
	ProfileAccessToken Profile = "at+jwt"
)

// DefaultRolesClaim is the default of Issuer.RolesClaim.
const DefaultRolesClaim = "roles"

// IsHMAC reports whether alg is one of the symmetric JWS algorithms.
func IsHMAC(alg string) bool { return alg == "HS256" || alg == "HS384" || alg == "HS512" }
