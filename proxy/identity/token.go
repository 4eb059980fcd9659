package identity

import (
	"encoding/base64"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"time"

	gatehouse "github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/policy"
)

const (
	maxToken = 8 << 10 // bytes
	// maxHeader bounds, in bytes of base64url, what is decoded before the
	// signature is checked. A certificate in x5c fits.
	maxHeader = 3 << 10
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
	errTokenForm    = errors.New("not three segments of base64url in at most 8 KiB")
	errIssuer       = errors.New("no issuer of that name")
	errNoKeys       = errors.New("the issuer has no keys yet")
	errTenantClaim  = errors.New("the tenant claim names another tenant")
	errTokenExpired = errors.New("now is at or past exp")
)

// Token identifies the bearer of a JSON Web Token in compact form at the
// instant now. A refusal is CodeInvalidCredential, or CodeForeignCredential
// when a token that is otherwise good names another tenant.
//
// The checks are those of RFC 8725; exp is required and has no leeway, nbf and
// iat have 60 seconds. A token that was accepted is remembered: it is accepted
// again without verification from nbf until exp, unless its key was withdrawn.
// That way takes no lock and does not allocate. Token keeps no reference to
// token.
//
// It waits only where an issuer with a jwks_url does not know the token's kid:
// at most unknownWait, while the keys are fetched anew.
func (v *Verifier) Token(token []byte, now time.Time) (*Verified, error) {
	t := v.tokens
	if len(token) > maxToken {
		return nil, invalid(tokenRefused, errTokenForm)
	}
	hash := maphash.Bytes(t.cache.seed, token)
	if s := t.cache.find(hash, token); s != nil && s.live(now) {
		return s.verified, nil
	}
	s, err := t.verify(string(token), now, v.sets)
	if err != nil {
		return nil, err
	}
	s.hash = hash
	t.cache.put(s, now)
	return s.verified, nil
}

// verify does everything that makes a token acceptable at now. The claims are
// decoded after the signature held, so that a forged token costs little more
// than its verification; golang-jwt's Parser decodes first.
func (t *tokens) verify(token string, now time.Time, sets *KeySets) (*seen, error) {
	if !compact(token) {
		return nil, invalid(tokenRefused, errTokenForm)
	}
	text, signature := token[:strings.LastIndexByte(token, '.')], token[strings.LastIndexByte(token, '.')+1:]
	encoded, payload, _ := strings.Cut(text, ".")
	h, err := readHeader(encoded)
	if err != nil {
		return nil, invalid(tokenRefused, err)
	}
	body, err := base64url.DecodeString(payload)
	if err != nil {
		return nil, invalid(tokenRefused, fmt.Errorf("claims: %w", err))
	}
	iss, _ := peek(body, "iss")
	by := t.issuers[string(iss)]
	if by == nil {
		return nil, invalid(tokenIssuer, errIssuer)
	}
	k, err := by.check(text, signature, h, now, sets)
	if err != nil {
		return nil, invalid(tokenRefused, err)
	}
	c, err := readObject(body)
	if err != nil {
		return nil, invalid(tokenRefused, fmt.Errorf("claims: %w", err))
	}
	s := &seen{token: token, key: k}
	if s.verified, s.notBefore, err = t.accept(by, c, now); err != nil {
		return nil, err
	}
	return s, nil
}

// check verifies the signature over text and returns the key that made it.
func (i *issuer) check(text, signature string, h header, now time.Time, sets *KeySets) (*key, error) {
	method := i.algorithms[h.alg]
	if method == nil {
		return nil, fmt.Errorf("algorithm %q is not allowed", h.alg)
	}
	sig, err := base64url.DecodeString(signature)
	if err != nil {
		return nil, fmt.Errorf("signature: %w", err)
	}
	k, err := i.find(h, now, sets)
	if err != nil {
		return nil, err
	}
	if err := method.Verify(text, sig, k.public); err != nil {
		return nil, fmt.Errorf("signature is invalid: %w", err)
	}
	return k, nil
}

// base64url refuses bits that carry nothing, so that a token has one spelling.
var base64url = base64.RawURLEncoding.Strict()

// compact reports whether s has the form of RFC 7515 section 3.1. The base64
// decoder alone would skip line ends.
func compact(s string) bool {
	dots := 0
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		case c == '.' && i > 0 && s[i-1] != '.':
			dots++
		default:
			return false
		}
	}
	return dots == 2 && s[len(s)-1] != '.'
}

// header is what counts of a JOSE header. jku, jwk, x5u and x5c are never
// looked at (RFC 8725 section 3.10).
type header struct {
	alg, kid string
	hasID    bool
}

func readHeader(encoded string) (h header, err error) {
	if len(encoded) > maxHeader {
		return h, fmt.Errorf("header of more than %d bytes", maxHeader)
	}
	text, err := base64url.DecodeString(encoded)
	if err != nil {
		return h, fmt.Errorf("header: %w", err)
	}
	m, err := readObject(text)
	if err != nil {
		return h, fmt.Errorf("header: %w", err)
	}
	if _, ok := m["crit"]; ok {
		return h, errors.New("crit names an extension that is not understood")
	}
	// RFC 8725 section 3.11: what says it is another kind of token is not an
	// access token.
	if v, ok := m["typ"]; ok {
		typ, _ := v.(string)
		switch strings.TrimPrefix(strings.ToLower(typ), "application/") {
		case "jwt", "at+jwt":
		default:
			return h, fmt.Errorf("typ %q is not that of an access token", typ)
		}
	}
	h.alg, _ = m["alg"].(string)
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
	set := i.keySet()
	if set == nil {
		return nil, errNoKeys
	}
	k, err := set.find(h.kid, h.hasID, h.alg)
	if errors.Is(err, errUnknownID) && i.source != nil && sets != nil && sets.refetch(i.source, now) {
		return i.keySet().find(h.kid, h.hasID, h.alg)
	}
	return k, err
}

// accept checks the claims of a token whose signature holds.
func (t *tokens) accept(by *issuer, c claims, now time.Time) (*Verified, time.Time, error) {
	var notBefore time.Time
	refuse := func(err error) (*Verified, time.Time, error) { return nil, notBefore, invalid(tokenRefused, err) }
	if c.text("iss") != by.name { // what peek saw is what the claims say
		return refuse(errIssuer)
	}
	exp, ok, err := c.date("exp")
	if err != nil {
		return refuse(err)
	}
	if !ok {
		return refuse(errors.New("exp is missing"))
	}
	if !now.Before(exp) {
		return nil, notBefore, invalid(tokenExpired, errTokenExpired)
	}
	for _, name := range [...]string{"nbf", "iat"} {
		at, ok, err := c.date(name)
		if err != nil {
			return refuse(err)
		}
		if at = at.Add(-leeway); ok && at.After(notBefore) {
			notBefore = at
		}
	}
	if now.Before(notBefore) {
		return refuse(errors.New("nbf or iat lies in the future"))
	}
	if !slices.ContainsFunc(c.audience(), func(a string) bool { return slices.Contains(by.audience, a) }) {
		return refuse(errors.New("aud has none of the expected values"))
	}
	sub := c.text("sub")
	if sub == "" || strings.HasPrefix(sub, keyIDPrefix) || strings.HasPrefix(sub, certIDPrefix) {
		return refuse(fmt.Errorf("sub %q is missing or not allowed", sub))
	}
	if by.tenantClaim != "" {
		if v, ok := c[by.tenantClaim]; ok && v != string(t.tenant) {
			return nil, notBefore, &gatehouse.Error{Code: gatehouse.CodeForeignCredential, Message: tokenElsewhere, Err: errTenantClaim}
		}
	}
	scopes := c.words("scope")
	if _, ok := c["scope"]; !ok {
		scopes = c.words("scp")
	}
	return &Verified{
		Principal: policy.NewPrincipal(kindUser, sub, string(t.tenant), c.words(by.rolesClaim), scopes, c.words("groups"), c),
		Method:    MethodJWT,
		Expires:   exp,
	}, notBefore, nil
}

// audience reads aud, one string or a list of them (RFC 7519 section 4.1.3).
func (c claims) audience() []string {
	if s, ok := c["aud"].(string); ok {
		return []string{s}
	}
	return c.words("aud")
}
