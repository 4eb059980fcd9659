package identity

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"hash/maphash"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	gatehouse "github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/policy"
)

// A signer keeps at most mintedSets × mintedWays tokens, in mintedBytes with the
// principals that they are of, as far as that can be told. When there are more
// it begins anew.
const (
	mintedSets  = 512
	mintedWays  = 4
	mintedBytes = 8 << 20
)

// minted keeps the tokens of one tenant's callers. Reads take no lock.
type minted struct {
	seed  maphash.Seed
	table atomic.Pointer[mintedTable] // made by the first put
}

type mintedTable struct {
	sets  [mintedSets]atomic.Pointer[mintedSet]
	bytes atomic.Int64 // of all tokens
}

type mintedSet [mintedWays]atomic.Pointer[mintedToken]

// mintedToken is a token for a principal at a backend.
type mintedToken struct {
	subject
	text      []byte
	half, end int64       // Unix seconds: from when a new one is made, and when this one ends
	renewing  atomic.Bool // set by the request that makes the next
	size      int64       // bytes, the principal's included
}

// subject is what a token says of whom to whom, but for the time.
type subject struct {
	who      *policy.Principal // its address tells it from all others as long as it is kept here
	method   string
	expires  int64 // Unix seconds: the end of the credential, noExpiry for none
	audience gatehouse.BackendID
}

const noExpiry = math.MaxInt64

// token appends a token for who at a backend.
func (s *Signer) token(dst []byte, who *Verified, audience gatehouse.BackendID, now time.Time) []byte {
	to := subject{principalOf(who), "none", noExpiry, audience}
	if who != nil {
		to.method = who.Method
		if !who.Expires.IsZero() {
			to.expires = who.Expires.Unix()
		}
	}
	at := maphash.String(s.minted.seed, to.who.ID) ^ maphash.String(s.minted.seed, string(audience))*3 ^ uint64(to.expires)*0x9e3779b97f4a7c15
	table := s.minted.table.Load()
	if table == nil || table.bytes.Load() > mintedBytes {
		s.minted.table.CompareAndSwap(table, new(mintedTable))
		table = s.minted.table.Load()
	}
	set := table.set(at)
	for i := range set {
		t := set[i].Load()
		if t == nil || t.subject != to || now.Unix() >= t.end {
			continue
		}
		if now.Unix() < t.half || t.renewing.Swap(true) {
			return append(dst, t.text...)
		}
		break
	}
	t := s.mint(to, now)
	if who == nil || who.size <= maxSeen { // or the token is verified each time, and this one not found again
		if t.size = int64(seenSize + len(t.text)); who != nil {
			t.size += int64(who.size)
		}
		table.bytes.Add(set.put(t))
	}
	return append(dst, t.text...)
}

func (m *mintedTable) set(at uint64) *mintedSet {
	slot := &m.sets[at%mintedSets]
	set := slot.Load()
	if set == nil {
		slot.CompareAndSwap(nil, new(mintedSet))
		set = slot.Load()
	}
	return set
}

// put stores t in the place of its forerunner, of nothing, or of the one that
// ends first, and returns by how many bytes the set grew.
func (set *mintedSet) put(t *mintedToken) int64 {
	victim, ends := 0, int64(0)
	for i := range set {
		old := set[i].Load()
		if old == nil || old.subject == t.subject {
			victim = i
			break
		}
		if i == 0 || old.end < ends {
			victim, ends = i, old.end
		}
	}
	if old := set[victim].Swap(t); old != nil {
		return t.size - old.size
	}
	return t.size
}

// mint makes a token (RFC 7519). It outlives the caller's credential by less
// than a second.
func (s *Signer) mint(to subject, now time.Time) *mintedToken {
	issued := now.Unix()
	end := max(issued+1, min(now.Add(s.lifetime).Unix(), to.expires))
	jti := make([]byte, 16)
	_, _ = rand.Read(jti) // never fails (crypto/rand)
	claims := struct {
		Iss    string   `json:"iss"`
		Sub    string   `json:"sub,omitempty"`
		Aud    string   `json:"aud"`
		SrcIss string   `json:"src_iss,omitempty"`
		Tenant string   `json:"tenant"`
		Roles  []string `json:"roles"`
		Scope  string   `json:"scope,omitempty"`
		Method string   `json:"method"`
		Iat    int64    `json:"iat"`
		Exp    int64    `json:"exp"`
		Jti    string   `json:"jti"`
	}{
		issuerName, to.who.ID, string(to.audience), to.who.Issuer, string(s.tenant), append([]string{}, to.who.Roles...), strings.Join(to.who.Scopes, " "),
		to.method, issued, end, base64.RawURLEncoding.EncodeToString(jti),
	}
	st := s.states.Get().(*state)
	defer s.states.Put(st)
	st.base = base64.RawURLEncoding.AppendEncode(st.base[:0], marshal(map[string]string{"alg": s.jose(), "kid": s.keyID, "typ": "JWT"}))
	st.base = base64.RawURLEncoding.AppendEncode(append(st.base, '.'), marshal(claims))
	text := append(slices.Clone(st.base), '.')
	return &mintedToken{
		subject: to, half: issued + (end-issued+1)/2, end: end,
		text: base64.RawURLEncoding.AppendEncode(text, s.signature(st)),
	}
}

// issuerName is the iss of our own tokens.
const issuerName = "gatehouse"

// jose is the name of the signature's algorithm in RFC 7518 and RFC 8037.
func (s *Signer) jose() string {
	switch s.private.(type) {
	case ed25519.PrivateKey:
		return "EdDSA"
	case *ecdsa.PrivateKey:
		return "ES256"
	}
	return "HS256"
}

func marshal(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic("identity: strings and numbers always marshal: " + err.Error())
	}
	return text
}
