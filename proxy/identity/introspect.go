package identity

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"

	gatehouse "github.com/gatehouse-gateway/gatehouse"
)

const (
	maxOpaque = 4 << 10  // bytes of a token
	maxAnswer = 16 << 10 // bytes of what the server says about one
	// Tokens that the server has not called active before are asked for at
	// most askRate times a second, askBurst at once: made-up tokens cost the
	// server no more than that. One address has half of it, so that none alone
	// locks the others out.
	askRate         = 100
	askBurst        = 200
	addressAskRate  = askRate / 2
	addressAskBurst = askBurst / 2
	// maxAsking bounds the requests of one tenant that wait for its server with
	// unknown tokens, and as many may wait with tokens that were active before:
	// made-up tokens do not lock out who is known, and neither does a server
	// that is slow with them. One address waits with at most a quarter of the
	// unknown.
	maxAsking        = 256
	addressMaxAsking = maxAsking / 4
	// knownFor is how long a token that was active is known beyond its last
	// answer.
	knownFor = time.Hour
)

var (
	errOpaqueForm = errors.New("not a token of RFC 6750 in at most 4 KiB")
	errNoServer   = errors.New("the tenant introspects no tokens")
	errInactive   = errors.New("the authorization server says that the token is not active")
	errThrottled  = errors.New("too many unknown tokens, or too many requests that wait for the authorization server")
)

// opaque is the part of a verifier that asks an authorization server about
// tokens (RFC 7662). Two verifiers of one tenant share it while the server
// does not change.
type opaque struct {
	terms
	doc     gatehouse.Introspection // what it was compiled from
	sets    *KeySets                // whose client carries the requests; nil where nothing is served
	keep    time.Duration
	timeout time.Duration
	name    string // of the URL, for the operator
	// The server's word on a token, by the token's SHA-256. They are apart so
	// that made-up tokens do not drive out good ones.
	active, inactive cache
	flight           singleflight.Group
	unknown          *rate.Limiter
	addresses        shares       // of unknown
	asking           atomic.Int32 // calls in flight about unknown tokens
	again            atomic.Int32 // those about known ones
}

// compileOpaque keeps that of prev where nothing has changed.
func compileOpaque(tenant gatehouse.TenantID, doc *gatehouse.Introspection, sets *KeySets, prev *Verifier) *opaque {
	if doc == nil {
		return nil
	}
	if prev != nil && prev.tenant == tenant && prev.sets == sets && prev.opaque != nil && reflect.DeepEqual(prev.opaque.doc, *doc) {
		return prev.opaque
	}
	seed := maphash.MakeSeed()
	o := &opaque{
		terms: terms{tenant: tenant, audience: doc.Audience, tenantClaim: doc.TenantClaim, rolesClaim: cmp.Or(doc.RolesClaim, gatehouse.DefaultRolesClaim)},
		doc:   *doc,
		sets:  sets,
		keep:  doc.CacheFor.Or(gatehouse.DefaultIntrospectionCache), timeout: doc.Timeout.Or(gatehouse.DefaultIntrospectionTimeout),
		active: cache{seed: seed}, inactive: cache{seed: seed},
		unknown: rate.NewLimiter(askRate, askBurst),
		name:    redacted(doc.URL),
	}
	o.addresses.init(addressAskRate, addressAskBurst)
	return o
}

// TakesOpaque reports whether the tenant has a server that is asked about
// opaque tokens.
func (v *Verifier) TakesOpaque() bool { return v.opaque != nil }

// Opaque identifies the bearer of an opaque token at the instant now, by what
// the tenant's authorization server says of it. by is as for Token, and so are
// refusals. CodeIdentityUnavailable means that the server could not be asked:
// nobody is admitted then.
//
// What the server says is remembered for CacheFor, and never past the token's
// exp; until then Opaque takes no lock and does not allocate. Otherwise it
// waits for the server, for at most Timeout. Requests with the same token wait
// for one answer. The principal's id is the answer's sub, or else username; or
// else, for a client on its own behalf, "client:" and client_id: clients may
// choose that, and must not choose to be a user (RFC 9700 section 4.15).
func (v *Verifier) Opaque(token []byte, by *Presented, now time.Time) (*Verified, error) {
	o := v.opaque
	if o == nil {
		return nil, by.refuse(invalid(tokenRefused, errNoServer))
	}
	if !opaqueForm(token) {
		return nil, by.refuse(invalid(tokenRefused, errOpaqueForm))
	}
	digest := sha256.Sum256(token)
	hash := maphash.Bytes(o.active.seed, digest[:])
	s, known := o.seen(hash, digest[:], now)
	if s == nil {
		var err error
		if s, err = o.ask(string(token), string(digest[:]), hash, known, by.client(), now); err != nil {
			return nil, err
		}
	}
	if s.err != nil {
		return nil, by.refuse(s.err)
	}
	return v.hold(s.verified, token, by, now, v.proofs.use)
}

// opaqueForm is the syntax of b64token (RFC 6750 section 2.1), which RFC 9449
// section 7.1 shares.
func opaqueForm(token []byte) bool {
	end := len(token)
	for end > 0 && token[end-1] == '=' {
		end--
	}
	for _, c := range token[:end] {
		if !unreserved(c) && c != '+' && c != '/' {
			return false
		}
	}
	return end > 0 && len(token) <= maxOpaque
}

// seen returns the server's word that still holds, nil when there is none.
// known says that the last one, which may not hold any more, was good and that
// the token has not expired since.
func (o *opaque) seen(hash uint64, digest []byte, now time.Time) (s *seen, known bool) {
	good, bad := o.active.find(hash, digest), o.inactive.find(hash, digest)
	switch {
	case bad != nil && bad.live(now):
		return bad, false
	case good != nil && good.live(now):
		return good, true
	}
	return nil, good != nil && (good.verified.Expires.IsZero() || now.Before(good.verified.Expires))
}

// ask has one call to the server for all who want to know of one token.
func (o *opaque) ask(token, digest string, hash uint64, known bool, client netip.Addr, now time.Time) (*seen, error) {
	s, err, _ := o.flight.Do(digest, func() (any, error) {
		if s, _ := o.seen(hash, []byte(digest), now); s != nil { // since we looked
			return s, nil
		}
		leave, ok := o.enter(known, client, now)
		defer leave()
		if !ok {
			return nil, unavailable(errThrottled)
		}
		c, err := o.call(token)
		if err != nil {
			return nil, unavailable(err)
		}
		s := o.judge(c, now)
		s.hash, s.token = hash, digest
		if s.err != nil {
			o.inactive.put(s, now)
		} else {
			o.active.put(s, now)
		}
		return s, nil
	})
	if err != nil {
		return nil, err
	}
	return s.(*seen), nil
}

// enter takes a place among those who ask, which leave gives back in any case,
// and reports whether there was one.
func (o *opaque) enter(known bool, client netip.Addr, now time.Time) (leave func(), ok bool) {
	if known {
		return func() { o.again.Add(-1) }, o.again.Add(1) <= maxAsking
	}
	s := o.addresses.of(client)
	leave = func() {
		o.asking.Add(-1)
		s.asking.Add(-1)
	}
	all, own := o.asking.Add(1), s.asking.Add(1)
	if client.IsValid() && (own > addressMaxAsking || !s.rate.AllowN(now, 1)) {
		return leave, false
	}
	return leave, all <= maxAsking && o.unknown.AllowN(now, 1)
}

// judge makes up what an answer of the server means, and for how long.
func (o *opaque) judge(c claims, now time.Time) *seen {
	s := &seen{until: now.Add(o.keep)}
	if c["active"] == false {
		s.err = invalid(tokenRefused, errInactive)
		return s
	}
	exp, notBefore, err := c.lifetime(now)
	if err == nil && !exp.IsZero() && exp.Before(s.until) {
		s.until = exp
	}
	if errors.Is(err, errFuture) && notBefore.Before(s.until) {
		s.until = notBefore
	}
	iss, named := c["iss"]
	who := holder{kindUser, cmp.Or(c.text("sub"), c.text("username")), cmp.Or(c.text("iss"), o.doc.Issuer)}
	if client := c.text("client_id"); who.id == "" && client != "" {
		who.kind, who.id = kindClient, clientIDPrefix+client
	}
	switch {
	case err != nil:
	case named && o.doc.Issuer != "" && iss != o.doc.Issuer:
		err = invalid(tokenIssuer, errors.New("iss is not the issuer that is expected"))
	case len(o.audience) > 0 && !c.meant(o.audience):
		err = invalid(tokenRefused, errAudience)
	default:
		s.verified, err = o.admit(c, who, MethodOpaque, exp)
	}
	s.err = err
	if err == nil {
		s.notBefore, s.kept = notBefore, s.until.Add(knownFor)
		if !exp.IsZero() && exp.Before(s.kept) {
			s.kept = exp
		}
	}
	return s
}

// call asks the server about a token (RFC 7662 section 2). The answer has
// active, true or false. A redirect is not followed: it would carry the token
// elsewhere.
func (o *opaque) call(token string) (claims, error) {
	if o.sets == nil {
		return nil, errors.New("nothing is asked where nothing is served")
	}
	ctx, cancel := context.WithTimeout(o.sets.ctx, o.timeout)
	defer cancel()
	form := url.Values{"token": {token}, "token_type_hint": {"access_token"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.doc.URL, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "gatehouse")
	// RFC 6749 section 2.3.1 encodes both as in a form.
	req.SetBasicAuth(url.QueryEscape(o.doc.ClientID), url.QueryEscape(string(o.doc.ClientSecret)))
	res, err := o.sets.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("introspect at %s: %w", o.name, bare(err))
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("introspect at %s: status %d", o.name, res.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("introspect at %s: %w", o.name, err)
	}
	if len(text) > maxAnswer {
		return nil, fmt.Errorf("introspect at %s: more than %d bytes", o.name, maxAnswer)
	}
	c, err := readObject(text)
	if err != nil {
		return nil, fmt.Errorf("introspect at %s: %w", o.name, err)
	}
	if _, ok := c["active"].(bool); !ok {
		return nil, fmt.Errorf("introspect at %s: active is neither true nor false", o.name)
	}
	return c, nil
}
