// Package identity proves who the caller of a request is: by API key, by JSON
// Web Token, by a token that its authorization server knows, or by client
// certificate. It knows no HTTP server; credentials come in as bytes, or as the
// handshake's certificates.
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
	MethodOpaque = "opaque"
)

// The kinds of principal.
const (
	kindKey    = "key"
	kindUser   = "user"
	kindClient = "client" // an application on its own behalf, by an opaque token
)

// What the ids of principals begin with that no sub of a token has named: a
// token whose sub begins so is refused, or its issuer could pass for any of
// them. See also certIDPrefix.
const (
	keyIDPrefix    = "key:"
	clientIDPrefix = "client:"
)

// Verified is who the caller is and how that was proved. It is shared between
// requests and immutable, but for what is remembered of it.
type Verified struct {
	// Principal is what policy sees.
	Principal *policy.Principal
	// Method is MethodAPIKey, MethodJWT, MethodOpaque or MethodCertificate.
	Method string
	// KeyID is the API key's id; empty for tokens.
	KeyID gatehouse.KeyID
	// Expires is when the credential stops being accepted; zero means never.
	Expires time.Time
	// Certificate is the one that named the caller; nil for other methods.
	Certificate *policy.Certificate

	// told is what backends are told of the caller, by the signer that last did.
	told atomic.Pointer[told]

	bound *binding // what the bearer of the token has to prove; nil: nothing
	size  int      // of what is held of a token, in bytes and about; 0 for other methods
}

// prefetch reads what is looked up next of a caller, side by side.
func (v *Verified) prefetch() uint64 {
	if v == nil {
		return 0
	}
	sum := v.Principal.Prefetch()
	if t := v.told.Load(); t != nil && t.text != "" {
		sum += uint64(t.text[0])
	}
	return sum
}

// Verifier is one tenant's compiled identity. It is immutable but for what
// it remembers of tokens and proofs, and safe for concurrent use.
type Verifier struct {
	tenant gatehouse.TenantID
	header string
	keys   *apiKeys
	tokens *tokens
	opaque *opaque // nil: no tokens are introspected
	proofs *replays
	failed *failures // signatures that did not hold
	sets   *KeySets
	closed atomic.Bool // set by the first Close

	certificates *certificates // nil: none are taken
}

// Compile makes the verifier of one tenant from a document that Validate
// accepted. The faults' pointers are relative to the identity object; when one
// of them is not a warning the verifier is nil and nothing is held.
//
// standing are the tenant's keys that are in no document, as WithKeys would be
// given them. Keys that are in prev already are taken over with their last use,
// and cost a look-up each. Where the document has no APIKeys, keys are off, and
// standing ones are not accepted either.
//
// Issuers with a jwks_url are fetched by sets, which may be nil where nothing
// is served: their tokens are then refused. prev, which may be nil, is the
// tenant's running verifier: where the issuers and their keys are unchanged,
// its cache of verified tokens is carried over. So is what the authorization
// server said where Introspection is unchanged, and in any case the proofs that
// were used and the tokens that failed.
//
// The caller must Close the verifier when it goes out of service, and close
// prev only after Compile has returned.
func Compile(tenant gatehouse.TenantID, doc gatehouse.Identity, standing []gatehouse.Key, sets *KeySets, prev *Verifier) (*Verifier, gatehouse.Faults) {
	v := &Verifier{tenant: tenant, header: gatehouse.DefaultKeyHeader, sets: sets}
	if doc.APIKeys != nil {
		if doc.APIKeys.Header != "" {
			v.header = doc.APIKeys.Header
		}
		v.keys = compileKeys(tenant, doc.APIKeys.Keys, standing, prev)
	}
	var faults gatehouse.Faults
	if v.certificates, faults = compileCertificates(doc.ClientCertificates, prev); len(faults) > 0 {
		return nil, faults
	}
	v.opaque = compileOpaque(tenant, doc.Introspection, sets, prev)
	if prev != nil && prev.tenant == tenant {
		v.proofs, v.failed = prev.proofs, prev.failed // or those used would pass again
	} else {
		v.proofs, v.failed = &replays{limit: maxReplays}, newFailures()
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

// WithKeys returns the verifier that follows v when some of the tenant's API
// keys change and nothing else does. It costs in proportion to the change: the
// keys of changed come in or take the place of those of the same id, and those
// of removed go. All keys together must be such as Validate accepts. Where v's
// document has no APIKeys, keys are off and nothing of them is remembered: the
// Compile that turns them on is to be given them. What Compile says of prev
// holds for v; WithKeys panics when it is closed already.
func (v *Verifier) WithKeys(changed []gatehouse.Key, removed []gatehouse.KeyID) *Verifier {
	next := &Verifier{
		tenant: v.tenant, header: v.header, tokens: v.tokens, opaque: v.opaque, proofs: v.proofs, failed: v.failed, sets: v.sets,
		certificates: v.certificates,
	}
	if !v.tokens.retain(v.sets) {
		panic("identity: WithKeys of a closed Verifier")
	}
	if v.keys == nil {
		return next
	}
	e := v.keys.edit(v.tenant, max(len(changed), v.keys.ids.count))
	for _, id := range removed {
		e.remove(id)
	}
	for i := range changed {
		e.put(&changed[i])
	}
	next.keys = e.done()
	return next
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

// Prefetch reads what Token will read first; see proxy.
func (v *Verifier) Prefetch() uint64 {
	sum := uint64(len(v.header)) + uint64(len(v.tokens.doc))
	if v.closed.Load() {
		sum++
	}
	if v.tokens.cache.table.Load() != nil {
		sum++
	}
	return sum
}

// Prefetch reads what Append will read first; see proxy.
func (s *Signer) Prefetch() uint64 { return uint64(len(s.tenant)) + uint64(len(s.secret)) }
