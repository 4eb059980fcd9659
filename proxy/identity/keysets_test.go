package identity

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	gatehouse "github.com/gatehouse-gateway/gatehouse"
)

// endpoint is a key server in memory.
type endpoint struct {
	mu      sync.Mutex
	keys    string // what it answers
	cache   string // Cache-Control
	err     error  // instead of an answer
	status  int
	hang    bool // until the request is given up
	fetches []time.Duration
	start   time.Time
}

func newEndpoint(keys string) *endpoint {
	return &endpoint{keys: keys, status: http.StatusOK, start: time.Now()}
}

func (e *endpoint) RoundTrip(r *http.Request) (*http.Response, error) {
	e.mu.Lock()
	e.fetches = append(e.fetches, time.Since(e.start))
	keys, cache, err, status, hang := e.keys, e.cache, e.err, e.status, e.hang
	e.mu.Unlock()
	if hang {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	if err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: status, Header: http.Header{"Cache-Control": {cache}, "Location": {"/other"}},
		Body: io.NopCloser(strings.NewReader(keys)), Request: r,
	}, nil
}

func (e *endpoint) set(change func(*endpoint)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	change(e)
}

func (e *endpoint) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.fetches)
}

func urlDoc() gatehouse.Identity {
	return gatehouse.Identity{JWT: []gatehouse.Issuer{{
		Issuer: iss, Audience: []string{api}, Algorithms: []string{"RS256"}, JWKSURL: "https://keys.example/jwks",
	}}}
}

// serve runs test with a verifier whose keys come from e, on a false clock.
func serve(t *testing.T, keys string, test func(t *testing.T, e *endpoint, sets *KeySets, v *Verifier)) {
	private() // is slow to make, and real time
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(keys)
		sets := NewKeySets(e, nil)
		defer sets.Close()
		v, faults := Compile("acme", urlDoc(), nil, sets, nil)
		if len(faults) > 0 {
			t.Fatal(faults)
		}
		defer v.Close()
		test(t, e, sets, v)
	})
}

// fresh is a token of kid that is good now.
func fresh(kid string, key any) []byte {
	return []byte(sign("RS256", object{"kid": kid}, good(object{"iat": time.Now().Unix(), "exp": time.Now().Add(48 * time.Hour).Unix()}), key))
}

func TestKeySetsRefreshAndRetire(t *testing.T) {
	p := private()
	both, one := jwks(jwk("a", p.rsa, nil), jwk("b", p.rsa2, nil)), jwks(jwk("a", p.rsa, nil))
	serve(t, both, func(t *testing.T, e *endpoint, _ *KeySets, v *Verifier) {
		a, b := fresh("a", p.rsa), fresh("b", p.rsa2)
		synctest.Wait()
		seenA, err := v.Token(a, nil, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		expect(t, "b", outcome(v.Token(b, nil, time.Now())), "alice")
		e.set(func(e *endpoint) { e.keys = one })
		<-time.After(48 * time.Minute) // 80 % of an hour
		synctest.Wait()
		if e.count() != 2 {
			t.Fatalf("%d fetches", e.count())
		}
		expect(t, "b withdrawn", outcome(v.Token(b, nil, time.Now())), "kid is not in")
		if got, _ := v.Token(a, nil, time.Now()); got != seenA {
			t.Error("the token of the key that stayed was verified again")
		}
		e.set(func(e *endpoint) { e.keys = jwks(jwk("a", p.rsa2, nil)) })
		<-time.After(48 * time.Minute)
		synctest.Wait()
		expect(t, "a replaced", outcome(v.Token(a, nil, time.Now())), "signature is invalid")
	})
}

func TestKeySetsKeepOnError(t *testing.T) {
	p := private()
	for name, spoil := range map[string]func(*endpoint){
		"unreachable": func(e *endpoint) { e.err = errors.New("connection refused") },
		"500":         func(e *endpoint) { e.status = 500 },
		"redirect":    func(e *endpoint) { e.status = 302 },
		"not JSON":    func(e *endpoint) { e.keys = "<html>" },
		"no keys":     func(e *endpoint) { e.keys = jwks() },
		"private key": func(e *endpoint) { e.keys = jwks(jwk("r", p.rsa2, object{"d": "AQ"})) },
		"too large":   func(e *endpoint) { e.keys = e.keys + strings.Repeat(" ", maxBody) },
		"hanging":     func(e *endpoint) { e.hang = true },
	} {
		t.Run(name, func(t *testing.T) {
			serve(t, jwks(jwk("r", p.rsa, nil)), func(t *testing.T, e *endpoint, _ *KeySets, v *Verifier) {
				synctest.Wait()
				e.set(spoil)
				<-time.After(3 * time.Hour)
				synctest.Wait()
				if e.count() < 10 {
					t.Errorf("%d fetches", e.count())
				}
				expect(t, "stale", outcome(v.Token(fresh("r", p.rsa), nil, time.Now())), "alice")
			})
		})
	}
}

func TestKeySetsRetryFirst(t *testing.T) {
	p := private()
	serve(t, "", func(t *testing.T, e *endpoint, _ *KeySets, v *Verifier) {
		<-time.After(20 * time.Second)
		synctest.Wait()
		// At 0, then about 1, 2, 4 and 8 seconds apart.
		if n := e.count(); n != 5 && n != 6 {
			t.Errorf("%d fetches in 20 seconds", n)
		}
		expect(t, "none yet", outcome(v.Token(fresh("r", p.rsa), nil, time.Now())), "no keys yet")
		<-time.After(time.Hour)
		e.set(func(e *endpoint) { e.keys = jwks(jwk("r", p.rsa, nil)) })
		before := e.count()
		<-time.After(retryMax)
		synctest.Wait()
		if n := e.count() - before; n != 1 {
			t.Errorf("%d fetches in retryMax", n)
		}
		expect(t, "healed", outcome(v.Token(fresh("r", p.rsa), nil, time.Now())), "alice")

		// The next trouble begins with short waits again.
		first := e.count()
		e.set(func(e *endpoint) { e.status = http.StatusBadGateway })
		<-time.After(time.Hour)
		e.set(func(e *endpoint) {
			if gap := e.fetches[first+1] - e.fetches[first]; gap > retryFirst {
				t.Errorf("the first retry came after %v", gap)
			}
		})
	})
}

func TestKeySetsUnknownKID(t *testing.T) {
	p := private()
	old, rotated := jwks(jwk("a", p.rsa, nil)), jwks(jwk("a", p.rsa, nil), jwk("b", p.rsa2, nil))
	serve(t, old, func(t *testing.T, e *endpoint, _ *KeySets, v *Verifier) {
		synctest.Wait()
		e.set(func(e *endpoint) { e.keys = rotated })
		expect(t, "rotated", outcome(v.Token(fresh("b", p.rsa2), nil, time.Now())), "alice")
		if e.count() != 2 {
			t.Fatalf("%d fetches", e.count())
		}
		// A flood of unknown kids costs one fetch a minute.
		for range 100 {
			expect(t, "unknown", outcome(v.Token(fresh("x", p.rsa), nil, time.Now())), "kid is not in")
		}
		<-time.After(59 * time.Second)
		expect(t, "unknown", outcome(v.Token(fresh("x", p.rsa), nil, time.Now())), "kid is not in")
		if e.count() != 2 {
			t.Errorf("%d fetches within a minute", e.count())
		}
		<-time.After(time.Second)
		expect(t, "unknown", outcome(v.Token(fresh("x", p.rsa), nil, time.Now())), "kid is not in")
		if e.count() != 3 {
			t.Errorf("%d fetches after a minute", e.count())
		}
	})
}

func TestKeySetsUnknownKIDWaitsLittle(t *testing.T) {
	p := private()
	serve(t, jwks(jwk("a", p.rsa, nil)), func(t *testing.T, e *endpoint, _ *KeySets, v *Verifier) {
		synctest.Wait()
		e.set(func(e *endpoint) { e.hang = true })
		start, token := time.Now(), fresh("x", p.rsa)
		var at [unknownWaiters + 36]time.Duration
		var wg sync.WaitGroup
		for i := range at {
			wg.Go(func() {
				_, _ = v.Token(token, nil, start)
				at[i] = time.Since(start)
			})
		}
		wg.Wait()
		slices.Sort(at[:])
		if at[35] != 0 || at[36] != unknownWait || at[len(at)-1] != unknownWait {
			t.Errorf("waits %v", at)
		}
		expect(t, "known", outcome(v.Token(fresh("a", p.rsa), nil, time.Now())), "alice")
		if time.Since(start) != unknownWait {
			t.Error("a known kid waited")
		}
	})
}

func TestKeySetsShareAndForget(t *testing.T) {
	p := private()
	serve(t, jwks(jwk("a", p.rsa, nil)), func(t *testing.T, e *endpoint, sets *KeySets, v *Verifier) {
		second, _ := Compile("umbrella", urlDoc(), nil, sets, nil)
		third, _ := Compile("acme", urlDoc(), nil, sets, v)
		if third.tokens != v.tokens {
			t.Error("the issuers were compiled again")
		}
		synctest.Wait()
		if e.count() != 1 {
			t.Errorf("%d fetches for one URL", e.count())
		}
		second.Close()
		second.Close()
		v.Close()
		<-time.After(time.Hour)
		if e.count() != 2 {
			t.Errorf("%d fetches while one verifier is left", e.count())
		}
		third.Close()
		<-time.After(48 * time.Hour)
		if e.count() != 2 {
			t.Errorf("%d fetches after the last was closed", e.count())
		}
		if len(sets.sources) != 0 {
			t.Error("the URL is not forgotten")
		}
		expect(t, "still served", outcome(third.Token(fresh("a", p.rsa), nil, time.Now())), "alice")
		expect(t, "unknown", outcome(third.Token(fresh("b", p.rsa), nil, time.Now())), "kid is not in")
		// A closed predecessor has nothing to carry over.
		fourth, _ := Compile("acme", urlDoc(), nil, sets, third)
		defer fourth.Close()
		if fourth.tokens == third.tokens {
			t.Error("forgotten keys are in use")
		}
		synctest.Wait()
		if e.count() != 3 {
			t.Errorf("%d fetches when the URL came back", e.count())
		}
		expect(t, "anew", outcome(fourth.Token(fresh("a", p.rsa), nil, time.Now())), "alice")
	})
}

// A set of faulty documents leaves nothing behind.
func TestKeySetsFaultyDocument(t *testing.T) {
	serve(t, "", func(t *testing.T, e *endpoint, sets *KeySets, v *Verifier) {
		doc := urlDoc()
		doc.JWT[0].JWKSURL = "https://never.example"
		bad := issuerDoc()
		bad.Issuer, bad.JWKS = "https://bad.example", "{"
		doc.JWT = append(doc.JWT, bad)
		if v, faults := Compile("acme", doc, nil, sets, nil); v != nil || len(faults) != 1 {
			t.Errorf("%v %v", v, faults)
		}
		if len(sets.sources) != 1 {
			t.Errorf("%d sources", len(sets.sources))
		}
	})
}

func TestFreshness(t *testing.T) {
	f := func(field string, want time.Duration) {
		t.Helper()
		if got := freshness(field); got != want {
			t.Errorf("%q: %v, want %v", field, got, want)
		}
	}
	f("", time.Hour)
	f("public, Max-Age=3600", time.Hour)
	f("max-age=7200, must-revalidate", 2*time.Hour)
	f("max-age=0", minAge)
	f("no-store", minAge)
	f("max-age=99999999", maxAge)
	f("max-age=99999999999999999999", defaultAge)
	f("max-age=-1", minAge)
	f("max-age=x", defaultAge)
}

// A real server over the loopback interface.
func TestKeySetsOverHTTP(t *testing.T) {
	p := private()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/moved" {
			http.Redirect(w, r, "/jwks", http.StatusFound)
			return
		}
		_, _ = io.WriteString(w, jwks(jwk("r", p.rsa, nil)))
	}))
	defer server.Close()
	fetched := make(chan error, 2)
	f := func(path, want string) {
		t.Helper()
		sets := NewKeySets(nil, func(_ string, err error) { fetched <- err })
		doc := urlDoc()
		doc.JWT[0].JWKSURL = server.URL + path
		v, _ := Compile("acme", doc, nil, sets, nil)
		if err := <-fetched; (err == nil) != (want == "alice") {
			t.Errorf("%s: %v", path, err)
		}
		sets.Close()
		expect(t, path, outcome(v.Token([]byte(sign("RS256", object{"kid": "r"}, good(nil), p.rsa)), nil, noon)), want)
	}
	f("/jwks", "alice")
	f("/moved", "no keys yet")
}

// What may be secret of a URL is not told.
func TestKeySetsRedact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint("{}")
		told := make(chan string, 3)
		sets := NewKeySets(e, func(url string, err error) { told <- fmt.Sprint(url, " ", err) })
		defer sets.Close()
		doc := urlDoc()
		doc.JWT[0].JWKSURL = "https://svc:hunter2@keys.example/a%2Fb?key=hunter3#hunter4"
		v, _ := Compile("acme", doc, nil, sets, nil)
		defer v.Close()
		const where = "https://keys.example/a%2Fb fetch https://keys.example/a%2Fb: "
		f := func(want string) {
			t.Helper()
			if got := <-told; got != where+want {
				t.Errorf("%s, want %s", got, want)
			}
		}
		f("no usable verification key")
		e.set(func(e *endpoint) { e.err = errors.New("connection refused") })
		f("connection refused")
		e.set(func(e *endpoint) { e.err, e.status = nil, 500 })
		f("status 500")
	})
}
