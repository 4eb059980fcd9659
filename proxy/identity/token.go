package identity

import (
	"errors"
	"fmt"
	"hash/maphash"
	"net/netip"
	"slices"
	"strings"
	"time"

	gatehouse "github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/policy"
)

const (
	maxToken = 8 << 10 // bytes
	// leeway is how far an issuer's clock may run ahead: it widens nbf and iat,
	// never exp.
	leeway = 60 * time.Second
)

const (
	tokenRefused   = "the token is not valid"
	tokenExpired   = "the token has expired"
	tokenIssuer    = "the token's issuer is not accepted here"
	tokenElsewhere = "the token belongs to another tenant"
)

var (
	errIssuer       = errors.New("no issuer of that name")
	errNoKeys       = errors.New("the issuer has no keys yet")
	errTenantClaim  = errors.New("the tenant claim names another tenant")
	errTokenExpired = errors.New("now is at or past exp")
	errFuture       = errors.New("nbf or iat lies in the future")
	errAudience     = errors.New("aud has none of the expected values")
	errUnbound      = errors.New("the token is not bound to a certificate or key, as its issuer's must be")
)

// Token identifies the bearer of a JSON Web Token in compact form at the
// instant now. A refusal is CodeInvalidCredential with a *Refusal as its cause,
// or CodeForeignCredential when a token that is otherwise good names another
// tenant. CodeIdentityUnavailable means that too many tokens of the tenant, or
// of by.Client, have failed lately for this one to be verified. by is what the request shows beside the token, for tokens that are
// bound to their holder; nil stands for a bearer token and nothing else. Token
// keeps no reference to token or by.
//
// The checks are those of RFC 8725, and those of RFC 9068 for a token of type
// at+jwt; exp is required and has no leeway, nbf and iat have 60 seconds. An ID
// token of the same issuer and audience cannot be told from an access token
// unless the issuer's profile is at+jwt.
//
// A token that was accepted is remembered: it is accepted again without
// verification from nbf until exp, unless its key was withdrawn. That way takes
// no lock and does not allocate. The binding is proved anew each time.
//
// It waits only where an issuer with a jwks_url does not know the token's kid:
// at most unknownWait, while the keys are fetched anew.
func (v *Verifier) Token(token []byte, by *Presented, now time.Time) (*Verified, error) {
	t := v.tokens
	if len(token) > maxToken {
		return nil, by.refuse(invalid(tokenRefused, errTokenForm))
	}
	hash := maphash.Bytes(t.cache.seed, token)
	s := t.cache.find(hash, token)
	if s == nil || !s.live(now) {
		var err error
		if s, err = t.verify(string(token), now, v.sets, v.failed, by.client()); err != nil {
			return nil, by.refuse(err)
		}
		s.hash = hash
		t.cache.put(s, now)
	}
	if s.verified.bound == nil && !by.proves() {
		return s.verified, nil
	}
	return v.hold(s.verified, token, by, now, v.proofs.use)
}

// GenuineToken reports whether Token would accept a JSON Web Token, but for
// proofs that were used already. It changes nothing of v: nothing is
// remembered, fetched or used up. So a request at another tenant may ask; what
// a bad signature costs counts with the failures of asker, that tenant's
// verifier.
func (v *Verifier) GenuineToken(token []byte, by *Presented, now time.Time, asker *Verifier) bool {
	t := v.tokens
	if len(token) > maxToken {
		return false
	}
	s := t.cache.find(maphash.Bytes(t.cache.seed, token), token)
	if s == nil || !s.live(now) {
		var err error
		if s, err = t.verify(string(token), now, nil, asker.failed, by.client()); err != nil {
			return false
		}
	}
	_, err := v.hold(s.verified, token, by, now, nil)
	return err == nil
}

// verify does everything that makes a token acceptable at now, its binding
// aside. Without sets nothing is fetched. The claims are decoded after the signature held, so that a forged
// token costs little more than its verification; golang-jwt's Parser decodes
// first.
func (t *tokens) verify(token string, now time.Time, sets *KeySets, failed *failures, client netip.Addr) (*seen, error) {
	j, err := parseJWS(token)
	if err != nil {
		return nil, invalid(tokenRefused, err)
	}
	h, err := readHeader(j.header)
	if err != nil {
		return nil, invalid(tokenRefused, err)
	}
	iss, _ := peek(j.payload, "iss")
	by := t.issuers[string(iss)]
	if by == nil {
		return nil, invalid(tokenIssuer, errIssuer)
	}
	k, err := by.find(h, now, sets)
	if err == nil {
		err = failed.verify(token, &j, by.algorithms[h.alg], k, client, now)
	}
	if errors.Is(err, errFailures) {
		return nil, unavailable(err)
	}
	if err != nil {
		return nil, invalid(tokenRefused, err)
	}
	c, err := readObject(j.payload)
	if err != nil {
		return nil, invalid(tokenRefused, fmt.Errorf("claims: %w", err))
	}
	s := &seen{token: token, key: k}
	if s.verified, s.notBefore, err = by.accept(h, c, now); err != nil {
		return nil, err
	}
	s.until = s.verified.Expires
	return s, nil
}

// header is what counts of a token's header. jku, jwk, x5u and x5c are never
// looked at (RFC 8725 section 3.10).
type header struct {
	alg, kid string
	hasID    bool
	access   bool // typ is at+jwt
}

func readHeader(m claims) (h header, err error) {
	// RFC 8725 section 3.11: what says it is another kind of token is not an
	// access token.
	if v, ok := m["typ"]; ok {
		typ, _ := v.(string)
		switch mediaType(typ) {
		case "jwt":
		case "at+jwt":
			h.access = true
		default:
			return h, fmt.Errorf("typ %q is not that of an access token", typ)
		}
	}
	h.alg = m.text("alg")
	if v, ok := m["kid"]; ok {
		h.hasID = true
		if h.kid, ok = v.(string); !ok {
			return h, errors.New("kid is not a string")
		}
	}
	return h, nil
}

// find returns the key that a header asks for, from this issuer's keys alone.
func (i *issuer) find(h header, now time.Time, sets *KeySets) (*key, error) {
	if i.algorithms[h.alg] == nil {
		return nil, fmt.Errorf("algorithm %q is not allowed", h.alg)
	}
	set := i.keySet()
	if set == nil {
		return nil, errNoKeys
	}
	if gatehouse.IsHMAC(h.alg) { // there is one secret, and it has no name
		h.hasID = false
	}
	k, err := set.find(h.kid, h.hasID, h.alg)
	if errors.Is(err, errUnknownID) && i.source != nil && sets != nil && sets.refetch(i.source, now) {
		return i.keySet().find(h.kid, h.hasID, h.alg)
	}
	return k, err
}

// accept checks the claims of a token whose signature holds.
func (i *issuer) accept(h header, c claims, now time.Time) (*Verified, time.Time, error) {
	refuse := func(err error) (*Verified, time.Time, error) {
		return nil, time.Time{}, invalid(tokenRefused, err)
	}
	if c.text("iss") != i.name { // what peek saw is what the claims say
		return refuse(errIssuer)
	}
	if i.accessOnly && !h.access {
		return refuse(errors.New("typ is not at+jwt, as this issuer's must be"))
	}
	exp, notBefore, err := c.lifetime(now)
	if err != nil {
		return nil, notBefore, err
	}
	if exp.IsZero() {
		return refuse(errors.New("exp is missing"))
	}
	if h.access {
		if err := c.access(); err != nil {
			return refuse(err)
		}
	}
	if !c.meant(i.audience) {
		return refuse(errAudience)
	}
	verified, err := i.admit(c, holder{kindUser, c.text("sub"), i.name}, MethodJWT, exp)
	return verified, notBefore, err
}

// access checks that the claims of RFC 9068 section 2.2 are there; iss, exp,
// aud and sub are checked for every token.
func (c claims) access() error {
	for _, name := range [...]string{"client_id", "jti"} {
		if c.text(name) == "" {
			return fmt.Errorf("%s is missing, or no string, in a token of type at+jwt", name)
		}
	}
	if _, ok := c["iat"]; !ok {
		return errors.New("iat is missing in a token of type at+jwt")
	}
	return nil
}

// terms are what the claims about a caller must meet, wherever they came from.
type terms struct {
	tenant      gatehouse.TenantID
	audience    []string
	tenantClaim string
	rolesClaim  string
	bound       bool // the token must be
}

// holder is whom claims are about.
type holder struct{ kind, id, issuer string }

// named reports whether the id is one that claims may give.
func (h *holder) named() bool {
	return h.id != "" && !strings.HasPrefix(h.id, keyIDPrefix) && !strings.HasPrefix(h.id, certIDPrefix) &&
		(h.kind == kindClient || !strings.HasPrefix(h.id, clientIDPrefix))
}

// admit makes the identity of claims that are genuine and in time.
func (t *terms) admit(c claims, who holder, method string, exp time.Time) (*Verified, error) {
	if !who.named() {
		return nil, invalid(tokenRefused, fmt.Errorf("sub %.100q is missing or not allowed", who.id))
	}
	if t.tenantClaim != "" {
		if v, ok := c[t.tenantClaim]; ok && v != string(t.tenant) {
			return nil, &gatehouse.Error{Code: gatehouse.CodeForeignCredential, Message: tokenElsewhere, Err: errTenantClaim}
		}
	}
	bound, err := c.binding()
	if err != nil {
		return nil, invalid(tokenRefused, err)
	}
	if t.bound && bound == nil {
		return nil, invalid(tokenRefused, errUnbound)
	}
	scopes := c.words("scope")
	if _, ok := c["scope"]; !ok {
		scopes = c.words("scp")
	}
	p := policy.NewIssued(who.issuer, who.kind, who.id, string(t.tenant), c.words(t.rolesClaim), scopes, c.words("groups"), c)
	return &Verified{Principal: p, Method: method, Expires: exp, bound: bound, size: p.Size()}, nil
}

// lifetime reads exp, nbf and iat and refuses what is not good at now. exp is
// zero where it is absent, notBefore where neither nbf nor iat is there; it
// has the leeway taken off.
func (c claims) lifetime(now time.Time) (exp, notBefore time.Time, err error) {
	exp, ok, err := c.date("exp")
	if err != nil {
		return exp, notBefore, invalid(tokenRefused, err)
	}
	if ok && !now.Before(exp) {
		return exp, notBefore, invalid(tokenExpired, errTokenExpired)
	}
	for _, name := range [...]string{"nbf", "iat"} {
		at, ok, err := c.date(name)
		if err != nil {
			return exp, notBefore, invalid(tokenRefused, err)
		}
		if at = at.Add(-leeway); ok && at.After(notBefore) {
			notBefore = at
		}
	}
	if now.Before(notBefore) {
		return exp, notBefore, invalid(tokenRefused, errFuture)
	}
	return exp, notBefore, nil
}

// meant reports whether aud, one string or a list of them (RFC 7519 section
// 4.1.3), has one of the values.
func (c claims) meant(values []string) bool {
	if s, ok := c["aud"].(string); ok {
		return slices.Contains(values, s)
	}
	return slices.ContainsFunc(c.words("aud"), func(a string) bool { return slices.Contains(values, a) })
}
