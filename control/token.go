package control

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
)

// Role is what an operator may do; policies/operators.rego says what that is.
type Role string

// The roles of operators and, last, of data planes.
const (
	Owner        Role = "owner"
	Operator     Role = "operator"
	PolicyEditor Role = "policy-editor"
	Billing      Role = "billing"
	Auditor      Role = "auditor"
	Viewer       Role = "viewer"
	Gateway      Role = "gateway"
)

// Roles are all roles.
var Roles = []Role{Owner, Operator, PolicyEditor, Billing, Auditor, Viewer, Gateway}

// Token is an operator token as it is shown.
type Token struct {
	NewToken
	Meta
	// LastUsed is as this control plane has seen it, to the minute.
	LastUsed time.Time `json:"last_used,omitzero"`
	// Secret is set in the answer that made it, and nowhere else.
	Secret string `json:"secret,omitempty"`
}

// tokenRecord is the body of a token in the journal.
type tokenRecord struct {
	NewToken
	// Hash is the SHA-256 of the secret, in hexadecimal.
	Hash string `json:"hash"`
}

// NewToken is what a token is made of.
type NewToken struct {
	// ID names the token in the journal. Default: made up.
	ID string `json:"id,omitempty"`
	// Name is for people.
	Name string `json:"name,omitempty"`
	// Role is what it may do.
	Role Role `json:"role"`
	// Tenants are those that it may do it to; empty: all, and the platform.
	Tenants []gatehouse.TenantID `json:"tenants,omitempty"`
	// Gateway is the one data plane that a token of the role gateway is for.
	// Default: that which uses it first.
	Gateway string `json:"gateway,omitempty"`
	// Expires is the time from which it is refused.
	Expires gatehouse.Time `json:"expires,omitzero"`
}

// TokenPrefix begins every operator token, so that scanners find leaked ones.
const TokenPrefix = "ghop_"

// A token is the prefix, 256 random bits in 43 base-62 digits, and their
// CRC-32 in 6 more.
const tokenDigits, sumDigits = 43, 6

func makeToken(random io.Reader) (string, error) {
	var raw [32]byte
	if _, err := io.ReadFull(random, raw[:]); err != nil {
		return "", err
	}
	body := TokenPrefix + base62(new(big.Int).SetBytes(raw[:]), tokenDigits)
	return body + tokenSum(body), nil
}

func tokenSum(body string) string {
	return base62(big.NewInt(int64(crc32.ChecksumIEEE([]byte(body)))), sumDigits)
}

func base62(n *big.Int, width int) string {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	out := make([]byte, width)
	base, rem := big.NewInt(62), new(big.Int)
	for i := range slices.Backward(out) {
		n.DivMod(n, base, rem)
		out[i] = digits[rem.Int64()]
	}
	return string(out)
}

// wellFormed reports whether a token is one of ours, by its checksum.
func wellFormed(token string) bool {
	if len(token) != len(TokenPrefix)+tokenDigits+sumDigits || !strings.HasPrefix(token, TokenPrefix) {
		return false
	}
	split := len(token) - sumDigits
	return tokenSum(token[:split]) == token[split:]
}

func tokenHash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

func tokenRef(id string) journal.Ref { return journal.Ref{Kind: kindToken, ID: id} }

// CreateToken makes an operator token. The secret is in the answer, once.
func (p *Plane) CreateToken(ctx context.Context, in NewToken, m Mutation) (Token, error) {
	if e, ok, err := p.replayed(ctx, m); ok || err != nil {
		return tokenIn(&e, err)
	}
	secret, err := makeToken(p.random)
	if err != nil {
		return Token{}, err
	}
	if in.ID == "" {
		in.ID = "t-" + tokenHash(secret)[:16]
	}
	r := tokenRecord{NewToken: in, Hash: tokenHash(secret)}
	faults := labelFaults(in.Name)
	if reason := gatehouse.HostFault(in.ID); reason != "" || strings.Contains(in.ID, ".") {
		faults = append(faults, gatehouse.Fault{Pointer: "/id", Reason: "the id is not a lower-case DNS label"})
	}
	if !slices.Contains(Roles, in.Role) {
		faults = append(faults, gatehouse.Fault{Pointer: "/role", Reason: fmt.Sprintf("role %q is unknown", in.Role), Hint: fmt.Sprintf("use one of %v", Roles)})
	}
	if in.Role == Gateway && len(in.Tenants) > 0 {
		faults = append(faults, gatehouse.Fault{Pointer: "/tenants", Reason: "a gateway's token is for all tenants"})
	}
	if in.Gateway != "" {
		if fault := gatewayFault(in.Gateway); fault != "" {
			faults = append(faults, gatehouse.Fault{Pointer: "/gateway", Reason: fault})
		}
		if in.Role != Gateway {
			faults = append(faults, gatehouse.Fault{Pointer: "/gateway", Reason: fmt.Sprintf("a token of the role %s is for no data plane", in.Role)})
		}
	}
	for i, id := range in.Tenants {
		if _, err := p.journal.Get(ctx, tenantRef(id)); err != nil {
			faults = append(faults, gatehouse.Fault{Pointer: gatehouse.Pointer("tenants", i), Reason: fmt.Sprintf("tenant %q does not exist", id)})
		}
	}
	if !in.Expires.IsZero() && !in.Expires.After(p.now()) {
		faults = append(faults, gatehouse.Fault{Pointer: "/expires", Reason: "the time is past"})
	}
	if err := invalid(faults); err != nil {
		return Token{}, err
	}
	ref := tokenRef(in.ID)
	c := journal.Change{Kind: "token.create", Subject: in.ID, Expect: map[journal.Ref]int64{ref: journal.Absent}, Puts: []journal.Put{put(ref, r)}}
	d, err := p.commit(ctx, m, c)
	if d.preview != nil {
		return Token{NewToken: r.NewToken, Meta: Meta{Preview: d.preview}}, err
	}
	t, err := tokenIn(&d.event, err)
	if err == nil && !d.replayed {
		t.Secret = secret
	}
	return t, err
}

// tokenIn is the token as an event left it; err is passed on.
func tokenIn(e *journal.Event, err error) (Token, error) {
	if err != nil {
		return Token{}, err
	}
	stored, ok := e.Resource(tokenRef(e.Subject))
	if !ok {
		return Token{}, notFound(kindToken)
	}
	t := Token{Meta: metaOf(&stored)}
	return t, json.Unmarshal(stored.Body, &t.NewToken)
}

// Tokens returns a page of the tokens.
func (p *Plane) Tokens(ctx context.Context, after string, limit int) (Page[Token], error) {
	found, err := p.journal.List(ctx, journal.Query{Kind: kindToken, After: after, Limit: limit})
	if err != nil {
		return Page[Token]{}, coded(err)
	}
	page := Page[Token]{Items: make([]Token, 0, len(found.Items)), Next: found.Next}
	for i := range found.Items {
		t := Token{Meta: metaOf(&found.Items[i])}
		if err := json.Unmarshal(found.Items[i].Body, &t.NewToken); err != nil {
			return page, err
		}
		page.Items = append(page.Items, t)
	}
	return page, nil
}

// Token returns one token.
func (p *Plane) Token(ctx context.Context, id string) (Token, error) {
	var t Token
	found, err := read(ctx, &p.journal.Reader, tokenRef(id), &t.NewToken)
	t.Meta = metaOf(&found)
	return t, err
}

// RevokeToken takes a token away. The answer to a dry run is what it would do.
func (p *Plane) RevokeToken(ctx context.Context, id string, m Mutation) (*Preview, error) {
	return p.remove(ctx, tokenRef(id), journal.Change{Kind: "token.revoke", Subject: id}, m)
}

// Tokens in force, as a process that authenticates callers keeps them: by the
// hash of the secret, following the journal.
type tokenBook struct {
	mu     sync.RWMutex
	byHash map[string]tokenRecord // guarded by mu
	hashes map[string]string      // by id; guarded by mu
	used   sync.Map               // id to time.Time, to the minute
}

func (b *tokenBook) set(id string, body json.RawMessage) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.byHash, b.hashes[id])
	delete(b.hashes, id)
	if body == nil {
		return nil
	}
	var r tokenRecord
	if err := json.Unmarshal(body, &r); err != nil {
		return fmt.Errorf("token %s: %w", id, err)
	}
	b.byHash[r.Hash], b.hashes[id] = r, r.Hash
	return nil
}

func (b *tokenBook) ids() []string {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return slices.Collect(maps.Keys(b.hashes))
}

// gateways are the names that tokens in force are bound to.
func (b *tokenBook) gateways(now time.Time) []string {
	b.mu.RLock()
	defer b.mu.RUnlock()
	names := map[string]bool{}
	for _, r := range b.byHash {
		if r.Gateway != "" && (r.Expires.IsZero() || r.Expires.After(now)) {
			names[r.Gateway] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

func (b *tokenBook) find(secret string) (tokenRecord, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	r, ok := b.byHash[tokenHash(secret)]
	return r, ok
}

// Bootstrap makes the first token, an owner's, where there is none. Its secret
// is for whoever starts the control plane. fresh is false where there are
// tokens already.
func (p *Plane) Bootstrap(ctx context.Context) (t Token, fresh bool, err error) {
	page, err := p.Tokens(ctx, "", 1)
	if err != nil || len(page.Items) > 0 {
		return Token{}, false, err
	}
	t, err = p.CreateToken(ctx, NewToken{ID: "bootstrap", Name: "made at the first start", Role: Owner}, Mutation{Actor: "system:start", Why: "there was no token"})
	if gatehouse.CodeOf(err) == gatehouse.CodeConflict {
		return Token{}, false, nil // another control plane was first
	}
	return t, err == nil, err
}
