package identity

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	gatehouse "github.com/gatehouse-gateway/gatehouse"
)

// authority is an introspection server in memory.
type authority struct {
	mu     sync.Mutex
	tokens map[string]any // what it says of each; a string is sent as it is
	asked  []string       // tokens, in order
	err    error
	status int
	hang   chan struct{} // answers when it is closed
	last   *http.Request
}

func (a *authority) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.ParseForm(); err != nil {
		return nil, err
	}
	a.mu.Lock()
	token := r.PostForm.Get("token")
	a.asked, a.last = append(a.asked, token), r
	says, known := a.tokens[token]
	err, status, hang := a.err, a.status, a.hang
	a.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	if err != nil {
		return nil, err
	}
	if !known {
		says = object{"active": false}
	}
	text, raw := says.(string)
	if !raw {
		b, err := json.Marshal(says)
		if err != nil {
			return nil, err
		}
		text = string(b)
	}
	return &http.Response{
		StatusCode: status, Header: http.Header{"Location": {"https://evil.example"}},
		Body: io.NopCloser(strings.NewReader(text)), Request: r,
	}, nil
}

func (a *authority) set(change func(*authority)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change(a)
}

func (a *authority) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.asked)
}

func opaqueDoc() gatehouse.Identity {
	return gatehouse.Identity{Introspection: &gatehouse.Introspection{
		URL: "https://as.example/introspect", ClientID: "gate way", ClientSecret: []byte("s:cret/ä"), ClientSecretFile: "s",
	}}
}

// introspecting runs test against an authorization server, on a false clock.
func introspecting(t *testing.T, doc gatehouse.Identity, tokens map[string]any, test func(t *testing.T, a *authority, v *Verifier)) {
	private()
	synctest.Test(t, func(t *testing.T) {
		a := &authority{tokens: tokens, status: http.StatusOK}
		sets := NewKeySets(a, nil)
		defer sets.Close()
		v, faults := Compile("acme", doc, nil, sets, nil)
		if len(faults) > 0 {
			t.Fatal(faults)
		}
		defer v.Close()
		test(t, a, v)
	})
}

func TestOpaque(t *testing.T) {
	p := private()
	now := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // that of a synctest bubble
	certificate := sha256.Sum256([]byte("certificate"))
	says := func(changes object) object {
		c := object{"active": true, "sub": "alice", "iss": "https://as.example", "aud": api, "exp": now.Add(time.Hour).Unix()}
		for k, v := range changes {
			c[k] = v
			if v == nil {
				delete(c, k)
			}
		}
		return c
	}
	doc := opaqueDoc()
	doc.Introspection.Issuer, doc.Introspection.Audience = "https://as.example", []string{"x", api}
	doc.Introspection.TenantClaim, doc.Introspection.RolesClaim = "org", "groups"
	const (
		bearer  = "Bearer invalid_token "
		refused = bearer + "GH-ID-002 the token is not valid "
		away    = "GH-ID-004 the credential cannot be checked at the moment introspect at https://as.example/introspect: "
	)
	cases := map[string]struct {
		says any
		want string
	}{
		"good":         {says(nil), "alice"},
		"username":     {says(object{"sub": nil, "username": "al", "client_id": "shop"}), "al"},
		"client":       {says(object{"sub": nil, "client_id": "shop"}), "client:shop"},
		"no-exp":       {says(object{"exp": nil}), "alice"},
		"no-iss":       {says(object{"iss": nil}), "alice"},
		"tenant":       {says(object{"org": "acme"}), "alice"},
		"unknown":      {object{"active": false}, refused + "the authorization server says that the token is not active"},
		"inactive-sub": {object{"active": false, "sub": "alice"}, refused + "the authorization server says that the token is not active"},
		"nobody":       {says(object{"sub": nil}), refused + `sub "" is missing or not allowed`},
		"a-key":        {says(object{"sub": "key:prod"}), refused + `sub "key:prod" is missing or not allowed`},
		"a-cert":       {says(object{"sub": nil, "username": "cert:x"}), refused + `sub "cert:x" is missing or not allowed`},
		"iss":          {says(object{"iss": "https://evil.example"}), bearer + "GH-ID-002 the token's issuer is not accepted here iss is not the issuer that is expected"},
		"iss-list":     {says(object{"iss": []string{"https://as.example"}}), bearer + "GH-ID-002 the token's issuer is not accepted here iss is not the issuer that is expected"},
		"aud":          {says(object{"aud": "y"}), refused + "aud has none of the expected values"},
		"no-aud":       {says(object{"aud": nil}), refused + "aud has none of the expected values"},
		"expired":      {says(object{"exp": now.Unix()}), bearer + "GH-ID-002 the token has expired now is at or past exp"},
		"exp-text":     {says(object{"exp": "x"}), refused + "exp is not a date"},
		"nbf":          {says(object{"nbf": now.Add(61 * time.Second).Unix()}), refused + "nbf or iat lies in the future"},
		"elsewhere":    {says(object{"org": "umbrella"}), bearer + "GH-RS-003 the token belongs to another tenant the tenant claim names another tenant"},
		"bound":        {says(object{"cnf": object{"x5t#S256": b64(certificate[:])}}), bearer + "GH-ID-002 the token is bound to a certificate or key that the request does not show the connection's certificate is not that of cnf x5t#S256"},
		"strange-cnf":  {says(object{"cnf": object{"x": "y"}}), refused + "cnf names no way to confirm the holder that is understood"},

		// Answers that are none: nobody is let in, nothing is remembered.
		"active-text": {says(object{"active": "true"}), away + "active is neither true nor false"},
		"active-1":    {says(object{"active": 1}), away + "active is neither true nor false"},
		"no-active":   {object{"sub": "alice"}, away + "active is neither true nor false"},
		"Active":      {object{"Active": true, "sub": "alice"}, away + "active is neither true nor false"},
		"twice":       {`{"active":false,"active":true,"sub":"alice"}`, away + `"active": member given twice`},
		"html":        {"<html>", away + "invalid character '<' looking for beginning of value"},
		"empty":       {"", away + "EOF"},
		"list":        {"[]", away + "not a JSON object"},
		"large":       {says(object{"x": strings.Repeat("x", maxAnswer)}), away + "more than 16384 bytes"},
		"latin1":      {"{\"active\":true,\"sub\":\"\xe4\"}", away + "not UTF-8"},

		// Not asked at all.
		"a b":                            {says(nil), refused + "not a token of RFC 6750 in at most 4 KiB"},
		"a&b":                            {says(nil), refused + "not a token of RFC 6750 in at most 4 KiB"},
		"===":                            {says(nil), refused + "not a token of RFC 6750 in at most 4 KiB"},
		"":                               {says(nil), refused + "not a token of RFC 6750 in at most 4 KiB"},
		strings.Repeat("x", maxOpaque+1): {says(nil), refused + "not a token of RFC 6750 in at most 4 KiB"},
	}
	tokens := map[string]any{}
	for token, c := range cases {
		tokens[token] = c.says
	}
	tokens["key"] = says(object{"cnf": object{"jkt": jkt(p.p256)}})
	introspecting(t, doc, tokens, func(t *testing.T, a *authority, v *Verifier) {
		for token, c := range cases {
			before := a.count()
			for range 2 {
				if got := challenge(v.Opaque([]byte(token), nil, now)); got != c.want {
					t.Errorf("%.20s:\n got %s\nwant %s", token, got, c.want)
				}
			}
			asks := 1
			switch {
			case strings.HasPrefix(c.want, away):
				asks = 2
			case strings.Contains(c.want, "RFC 6750"):
				asks = 0
			}
			if n := a.count() - before; n != asks {
				t.Errorf("%.20s: asked %d times, not %d", token, n, asks)
			}
		}
		user, password, _ := a.last.BasicAuth()
		form := a.last.PostForm
		if got := fmt.Sprint(a.last.Method, " ", a.last.URL, " ", user, " ", password, " ", form.Get("token_type_hint"), " ", a.last.Header.Get("Content-Type")); got !=
			"POST https://as.example/introspect gate+way s%3Acret%2F%C3%A4 access_token application/x-www-form-urlencoded" {
			t.Error(got)
		}
		expect(t, "certificate", outcome(v.Opaque([]byte("bound"), &Presented{Certificate: &certificate}, now)), "alice")
		by := shown(proof("ES256", p.p256, "key", nil, object{"iat": now.Unix()}))
		expect(t, "proof", outcome(v.Opaque([]byte("key"), by, now)), "alice")
		expect(t, "proof again", outcome(v.Opaque([]byte("key"), by, now)), "used before")
	})
}

func TestOpaquePrincipal(t *testing.T) {
	introspecting(t, opaqueDoc(), map[string]any{"x": object{"active": true, "sub": "alice", "scope": "r w", "roles": []string{"admin"}, "client_id": "shop"}}, func(t *testing.T, _ *authority, v *Verifier) {
		got, err := v.Opaque([]byte("x"), nil, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		p := got.Principal
		if s := strings.TrimSpace(fmt.Sprintln(got.Method, got.Expires.IsZero(), p.Kind, p.ID, p.Tenant, p.Roles, p.Scopes, p.Claims["client_id"])); s != "opaque true user alice acme [admin] [r w] shop" {
			t.Error(s)
		}
	})
	v := compile(t, "acme", gatehouse.Identity{})
	if v.TakesOpaque() {
		t.Error("takes opaque tokens")
	}
	expect(t, "no server", outcome(v.Opaque([]byte("x"), nil, noon)), "the tenant introspects no tokens")
	expect(t, "not served", outcome(compile(t, "acme", opaqueDoc()).Opaque([]byte("x"), nil, noon)), "GH-ID-004")
}

// What the server said holds for CacheFor and no longer than exp, good or bad.
func TestOpaqueRemembers(t *testing.T) {
	start := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	tokens := map[string]any{
		"good":  object{"active": true, "sub": "alice"},
		"short": object{"active": true, "sub": "alice", "exp": start.Add(10 * time.Second).Unix()},
		"soon":  object{"active": true, "sub": "alice", "nbf": start.Add(70 * time.Second).Unix()},
	}
	introspecting(t, opaqueDoc(), tokens, func(t *testing.T, a *authority, v *Verifier) {
		f := func(token string, at time.Duration, want string, asked int) {
			t.Helper()
			before := a.count()
			expect(t, token, outcome(v.Opaque([]byte(token), nil, start.Add(at))), want)
			if n := a.count() - before; n != asked {
				t.Errorf("%s at %v: asked %d times, not %d", token, at, n, asked)
			}
		}
		f("good", 0, "alice", 1)
		f("good", 30*time.Second-1, "alice", 0)
		a.set(func(a *authority) { delete(a.tokens, "good") }) // revoked
		f("good", 30*time.Second-1, "alice", 0)
		f("good", 30*time.Second, "not active", 1)
		f("good", 60*time.Second-1, "not active", 0)
		a.set(func(a *authority) { a.tokens["good"] = object{"active": true, "sub": "alice"} })
		f("good", 60*time.Second, "alice", 1)

		f("short", 0, "alice", 1)
		f("short", 10*time.Second-1, "alice", 0)
		f("short", 10*time.Second, "expired", 1)
		f("short", 11*time.Second, "expired", 0)

		f("soon", 0, "future", 1)
		f("soon", 10*time.Second-1, "future", 0)
		f("soon", 10*time.Second, "alice", 1)

		// A server that is away does not undo what it said, and lets nobody in.
		a.set(func(a *authority) { a.err = errors.New("connection refused") })
		f("good", 89*time.Second, "alice", 0)
		f("good", 90*time.Second, "GH-ID-004", 1)
		f("other", 90*time.Second, "GH-ID-004", 1)
		for _, status := range []int{302, 400, 401, 500, 503} {
			a.set(func(a *authority) { a.err, a.status = nil, status })
			f("good", 90*time.Second, fmt.Sprint("status ", status), 1)
		}
		a.set(func(a *authority) { a.status = http.StatusOK })
		f("good", 90*time.Second, "alice", 1)

		// The same server after a change elsewhere in the document.
		next, _ := Compile("acme", opaqueDoc(), nil, v.sets, v)
		defer next.Close()
		if next.opaque != v.opaque {
			t.Error("a change elsewhere forgot what the server said")
		}
		changed := opaqueDoc()
		changed.Introspection.Audience = []string{api}
		last, _ := Compile("acme", changed, nil, v.sets, v)
		defer last.Close()
		expect(t, "changed", outcome(last.Opaque([]byte("good"), nil, start.Add(90*time.Second))), "aud has none")
		other, _ := Compile("umbrella", opaqueDoc(), nil, v.sets, v)
		defer other.Close()
		if other.opaque == v.opaque {
			t.Error("another tenant has the answers")
		}
	})
}

func TestOpaqueTimeout(t *testing.T) {
	introspecting(t, opaqueDoc(), nil, func(t *testing.T, a *authority, v *Verifier) {
		a.hang = make(chan struct{})
		start := time.Now()
		expect(t, "hanging", outcome(v.Opaque([]byte("x"), nil, start)), "GH-ID-004")
		if d := time.Since(start); d != gatehouse.DefaultIntrospectionTimeout {
			t.Errorf("after %v", d)
		}
		go func() {
			<-time.After(time.Second)
			v.sets.Close()
		}()
		start = time.Now()
		expect(t, "closing", outcome(v.Opaque([]byte("x"), nil, start)), "GH-ID-004")
		if d := time.Since(start); d != time.Second {
			t.Errorf("closed after %v", d)
		}
	})
}

// A hundred requests with one new token are one question.
func TestOpaqueAsksOnce(t *testing.T) {
	introspecting(t, opaqueDoc(), map[string]any{"x": object{"active": true, "sub": "alice"}}, func(t *testing.T, a *authority, v *Verifier) {
		a.hang = make(chan struct{})
		now := time.Now()
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() { expect(t, "x", outcome(v.Opaque([]byte("x"), nil, now)), "alice") })
		}
		synctest.Wait()
		close(a.hang)
		wg.Wait()
		if n := a.count(); n != 1 {
			t.Errorf("asked %d times", n)
		}
	})
}

// Made-up tokens reach the server at a bounded rate, and do not keep out who is
// known.
func TestOpaqueFlood(t *testing.T) {
	tokens := map[string]any{"known": object{"active": true, "sub": "alice"}, "new": object{"active": true, "sub": "bob"}}
	introspecting(t, opaqueDoc(), tokens, func(t *testing.T, a *authority, v *Verifier) {
		start := time.Now()
		expect(t, "known", outcome(v.Opaque([]byte("known"), nil, start)), "alice")
		for i := range 10_000 {
			_, _ = v.Opaque(fmt.Appendf(nil, "made-up-%d", i), nil, start)
		}
		if n := a.count(); n != askBurst {
			t.Errorf("asked %d times at once", n)
		}
		expect(t, "throttled", outcome(v.Opaque([]byte("new"), nil, start)), "GH-ID-004 the credential cannot be checked at the moment too many unknown tokens")
		later := start.Add(time.Minute)
		for i := range 10_000 {
			_, _ = v.Opaque(fmt.Appendf(nil, "made-up-again-%d", i), nil, later)
		}
		if n := a.count(); n != 2*askBurst {
			t.Errorf("asked %d times", n)
		}
		expect(t, "known, asked for again", outcome(v.Opaque([]byte("known"), nil, later)), "alice")
		if n := a.count(); n != 2*askBurst+1 {
			t.Errorf("asked %d times", n)
		}
		expect(t, "new, a second later", outcome(v.Opaque([]byte("new"), nil, later.Add(time.Second))), "bob")
	})
}

// No more than maxAsking requests of a tenant wait for its server.
func TestOpaqueWaiters(t *testing.T) {
	doc := opaqueDoc()
	introspecting(t, doc, nil, func(t *testing.T, a *authority, v *Verifier) {
		start := time.Now()
		for i := range maxAsking + 50 { // they become known, at a rate that is let through
			at := start.Add(time.Duration(i) * time.Second / askRate)
			a.set(func(a *authority) { a.tokens = map[string]any{fmt.Sprint(i): object{"active": true, "sub": "alice"}} })
			expect(t, "first", outcome(v.Opaque(fmt.Append(nil, i), nil, at)), "alice")
		}
		a.set(func(a *authority) { a.hang = make(chan struct{}) })
		now := start.Add(time.Hour)
		var at [maxAsking + 50]time.Duration
		began := time.Now()
		var wg sync.WaitGroup
		for i := range at {
			token := fmt.Append(nil, i)
			digest := sha256.Sum256(token)
			if _, known := v.opaque.seen(maphash.Bytes(v.opaque.active.seed, digest[:]), digest[:], now); !known {
				continue // others have taken its place in the cache
			}
			wg.Go(func() {
				_, _ = v.Opaque(token, nil, now)
				at[i] = time.Since(began)
			})
		}
		wg.Wait()
		waited := 0
		for _, d := range at {
			if d > 0 {
				waited++
			}
		}
		if waited != maxAsking {
			t.Errorf("%d waited", waited)
		}
	})
}

func TestOpaqueSeenDoesNotAllocate(t *testing.T) {
	introspecting(t, opaqueDoc(), map[string]any{"x": object{"active": true, "sub": "alice"}}, func(t *testing.T, _ *authority, v *Verifier) {
		now, token := time.Now(), []byte("x")
		if _, err := v.Opaque(token, nil, now); err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(100, func() { _, _ = v.Opaque(token, nil, now) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

// A real server over the loopback interface, whose redirect is not followed.
func TestOpaqueOverHTTP(t *testing.T) {
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		asked = append(asked, r.URL.Path+" "+user+" "+password+" "+r.FormValue("token"))
		if r.URL.Path == "/moved" {
			http.Redirect(w, r, "/introspect", http.StatusTemporaryRedirect)
			return
		}
		_, _ = io.WriteString(w, `{"active":true,"sub":"alice"}`)
	}))
	defer server.Close()
	sets := NewKeySets(nil, nil)
	defer sets.Close()
	f := func(path, want string) {
		t.Helper()
		doc := opaqueDoc()
		doc.Introspection.URL, doc.Introspection.ClientSecret = server.URL+path, []byte("s")
		v, _ := Compile("acme", doc, nil, sets, nil)
		defer v.Close()
		expect(t, path, outcome(v.Opaque([]byte("mF_9.B5f-4.1JqM"), nil, noon)), want)
	}
	f("/introspect", "alice")
	f("/moved", "status 307")
	if got := strings.Join(asked, "\n"); got != "/introspect gate+way s mF_9.B5f-4.1JqM\n/moved gate+way s mF_9.B5f-4.1JqM" {
		t.Error(got)
	}
}

// Made-up tokens against a server that is slow do not keep out who is known,
// and those of one address not who is new.
func TestOpaqueSlowServer(t *testing.T) {
	tokens := map[string]any{"known": object{"active": true, "sub": "alice"}, "new": object{"active": true, "sub": "bob"}}
	introspecting(t, opaqueDoc(), tokens, func(t *testing.T, a *authority, v *Verifier) {
		start := time.Now()
		expect(t, "known", outcome(v.Opaque([]byte("known"), from("192.0.2.1"), start)), "alice")
		a.set(func(a *authority) { a.hang = make(chan struct{}) })
		flood := func(of int, address func(i int) *Presented, waiting int32) {
			t.Helper()
			for i := range 4 * askBurst { // at the rate that is let through
				go func() {
					_, _ = v.Opaque(fmt.Appendf(nil, "made-up-%d-%d", of, i), address(i), start.Add(time.Duration(i)*time.Second/askRate))
				}()
			}
			synctest.Wait()
			if n := v.opaque.asking.Load(); n != waiting {
				t.Errorf("%d wait, not %d", n, waiting)
			}
		}
		ask := func(token string, by *Presented, at time.Duration) <-chan string {
			got := make(chan string, 1)
			go func() { got <- outcome(v.Opaque([]byte(token), by, start.Add(at))) }()
			synctest.Wait()
			return got
		}
		const throttled = "GH-ID-004 the credential cannot be checked at the moment too many unknown tokens"
		flood(1, func(int) *Presented { return from("192.0.2.1") }, addressMaxAsking)
		expect(t, "same address", <-ask("other", from("192.0.2.1"), time.Minute), throttled)
		fresh := ask("new", from("192.0.2.2"), time.Minute)
		flood(2, func(i int) *Presented { return from(fmt.Sprintf("198.51.100.%d", i%250)) }, maxAsking)
		expect(t, "a full house", <-ask("other", from("192.0.2.3"), 2*time.Minute), throttled)
		again := ask("known", from("192.0.2.1"), 2*time.Minute)
		close(a.hang)
		expect(t, "new, another address", <-fresh, "bob")
		expect(t, "known, asked for again", <-again, "alice")
		synctest.Wait()
		if n, m := v.opaque.asking.Load(), v.opaque.again.Load(); n != 0 || m != 0 {
			t.Errorf("%d and %d places were not given back", n, m)
		}
	})
}

// A token is known for an hour beyond its last answer, and not for longer: then
// its entry may go.
func TestOpaqueForgets(t *testing.T) {
	introspecting(t, opaqueDoc(), map[string]any{"x": object{"active": true, "sub": "alice"}}, func(t *testing.T, _ *authority, v *Verifier) {
		start := time.Now()
		if _, err := v.Opaque([]byte("x"), nil, start); err != nil {
			t.Fatal(err)
		}
		c, digest := &v.opaque.active, sha256.Sum256([]byte("x"))
		hash := maphash.Bytes(c.seed, digest[:])
		for _, at := range []struct {
			after time.Duration
			known bool
		}{{time.Minute, true}, {knownFor + time.Minute, false}} {
			for range cacheSegments {
				c.sweep(c.table.Load(), nil, start.Add(at.after))
			}
			if s, known := v.opaque.seen(hash, digest[:], start.Add(at.after)); s != nil || known != at.known {
				t.Errorf("after %v: %v, known %v", at.after, s, known)
			}
		}
		if n := c.bytes.Load(); n != 0 {
			t.Errorf("%d bytes are left", n)
		}
	})
}
