// Package identity proves who the caller of a request is: by API key, by JSON
// Web Token or by client certificate. It knows no HTTP server; credentials come
// in as bytes, or as the handshake's certificates.
//
// Verifier is one tenant's compiled identity, Directory finds the tenant of a
// credential among all tenants, and KeySets fetches the issuers' public keys
// in the background. Only KeySets starts goroutines, and Close ends them.
package identity

import (
	"sync/atomic"
	"time"

	gatehouse "github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/policy"
)

// How a caller was identified: the values of Verified.Method.
const (
	MethodAPIKey = "api_key"
	MethodJWT    = "jwt"
)

// The kinds of principal.
const (
	kindKey  = "key"
	kindUser = "user"
)

// keyIDPrefix begins the id of a principal that is an API key. A token whose
// sub begins so is refused, or its issuer could pass for any key.
const keyIDPrefix = "key:"

// Verified is who the caller is and how that was proved. It is immutable and
// shared between requests.
type Verified struct {
	// Principal is what policy sees.
	Principal *policy.Principal
	// Method is MethodAPIKey, MethodJWT or MethodCertificate.
	Method string
	// KeyID is the API key's id; empty for tokens.
	KeyID gatehouse.KeyID
	// Expires is when the credential stops being accepted; zero means never.
	Expires time.Time
}

// Verifier is one tenant's compiled identity. It is immutable but for its
// cache of seen tokens and safe for concurrent use.
type Verifier struct {
	tenant gatehouse.TenantID
	header string
	keys   *apiKeys
	tokens *tokens
	sets   *KeySets
	closed atomic.Bool // set by the first Close

	certificates *certificates // nil: none are taken
}

// Compile makes the verifier of one tenant from a document that Validate
// accepted. The faults' pointers are relative to the identity object; when one
// of them is not a warning the verifier is nil and nothing is held.
//
// Issuers with a jwks_url are fetched by sets, which may be nil where nothing
// is served: their tokens are then refused. prev, which may be nil, is the
// tenant's running verifier: where the issuers and their keys are unchanged,
// its cache of verified tokens is carried over.
//
// The caller must Close the verifier when it goes out of service, and close
// prev only after Compile has returned.
func Compile(tenant gatehouse.TenantID, doc gatehouse.Identity, sets *KeySets, prev *Verifier) (*Verifier, gatehouse.Faults) {
	v := &Verifier{tenant: tenant, header: gatehouse.DefaultKeyHeader, sets: sets}
	if doc.APIKeys != nil {
		if doc.APIKeys.Header != "" {
			v.header = doc.APIKeys.Header
		}
		v.keys = compileKeys(tenant, doc.APIKeys.Keys)
	}
	var faults gatehouse.Faults
	if v.certificates, faults = compileCertificates(doc.ClientCertificates, prev); len(faults) > 0 {
		return nil, faults
	}
	if prev != nil && prev.tenant == tenant && prev.sets == sets && prev.tokens.same(doc.JWT) && prev.tokens.retain(sets) {
		v.tokens = prev.tokens
		return v, prev.tokens.warnings
	}
	v.tokens, faults = compileTokens(tenant, doc.JWT, sets)
	if len(faults.Errors()) > 0 {
		return nil, faults
	}
	return v, faults
}

// Close releases the issuers' key sets: a URL that no verifier needs is no
// longer fetched. Requests that still hold the verifier may go on using it.
func (v *Verifier) Close() {
	if v != nil && !v.closed.Swap(true) {
		v.tokens.release(v.sets)
	}
}

// Tenant returns the tenant whose credentials the verifier accepts.
func (v *Verifier) Tenant() gatehouse.TenantID { return v.tenant }

// KeyHeader returns the name of the header field that carries API keys, or ""
// when the tenant takes none.
func (v *Verifier) KeyHeader() string {
	if v.keys == nil {
		return ""
	}
	return v.header
}

// TakesTokens reports whether the tenant has an issuer of tokens.
func (v *Verifier) TakesTokens() bool { return len(v.tokens.issuers) > 0 }

// invalid is the refusal of a credential. The message is all that the caller
// learns.
func invalid(message string, cause error) error {
	return &gatehouse.Error{Code: gatehouse.CodeInvalidCredential, Message: message, Err: cause}
}
