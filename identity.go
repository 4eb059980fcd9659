package gatehouse

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
}

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

	// JWKS is the text of JWKSFile, put in by the reader of the document.
	JWKS string `json:"-"`
	// Secret is the content of SecretFile, put in by the reader.
	Secret Secret `json:"-"`
}

// DefaultRolesClaim is the default of Issuer.RolesClaim.
const DefaultRolesClaim = "roles"

// IsHMAC reports whether alg is one of the symmetric JWS algorithms.
func IsHMAC(alg string) bool { return alg == "HS256" || alg == "HS384" || alg == "HS512" }
