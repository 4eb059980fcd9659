package control

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
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
	tokenRecord
	Meta
	// LastUsed is as this control plane has seen it, to the minute.
	LastUsed time.Time `json:"last_used,omitzero"`
	// Secret is set in the answer that made it, and nowhere else.
	Secret string `json:"secret,omitempty"`
}

type tokenRecord struct {
	// ID names the token in the journal.
	ID string `json:"id"`
	// Name is for people.
	Name string `json:"name,omitempty"`
	// Role is what it may do.
	Role Role `json:"role"`
	// Tenants are those that it may do it to; empty: all, and the platform.
	Tenants []gatehouse.TenantID `json:"tenants,omitempty"`
	// Expires is the time from which it is refused.
	Expires gatehouse.Time `json:"expires,omitzero"`
	// Hash is the SHA-256 of the secret, in hexadecimal.
	Hash string `json:"hash"`
}

// NewToken is what a token is made of.
type NewToken struct {
	ID      string               `json:"id,omitempty"`
	Name    string               `json:"name,omitempty"`
	Role    Role                 `json:"role"`
	Tenants []gatehouse.TenantID `json:"tenants,omitempty"`
	Expires gatehouse.Time       `json:"expires,omitzero"`
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
	secret, err := makeToken(p.random)
	if err != nil {
		return Token{}, err
	}
	if in.ID == "" {
		in.ID = "t-" + tokenHash(secret)[:16]
	}
	r := tokenRecord{ID: in.ID, Name: in.Name, Role: in.Role, Tenants: in.Tenants, Expires: in.Expires, Hash: tokenHash(secret)}
	var faults gatehouse.Faults
	if reason := gatehouse.HostFault(in.ID); reason != "" || strings.Contains(in.ID, ".") {
		faults = append(faults, gatehouse.Fault{Pointer: "/id", Reason: "the id is not a lower-case DNS label"})
	}
	if !slices.Contains(Roles, in.Role) {
		faults = append(faults, gatehouse.Fault{Pointer: "/role", Reason: fmt.Sprintf("role %q is unknown", in.Role), Hint: fmt.Sprintf("use one of %v", Roles)})
	}
	if in.Role == Gateway && len(in.Tenants) > 0 {
		faults = append(faults, gatehouse.Fault{Pointer: "/tenants", Reason: "a gateway's token is for all tenants"})
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
	if m.DryRun {
		return Token{tokenRecord: r}, p.possible(ctx, &c)
	}
	e, replayed, err := p.commit(ctx, m, c)
	if err != nil {
		return Token{}, err
	}
	if replayed {
		ref = tokenRef(e.Subject)
	}
	stored, ok := e.Resource(ref)
	if !ok {
		return Token{}, notFound("token")
	}
	t := Token{Meta: metaOf(&stored)}
	if err := json.Unmarshal(stored.Body, &t.tokenRecord); err != nil {
		return Token{}, err
	}
	if !replayed {
		t.Secret = secret
	}
	return t, nil
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
		if err := json.Unmarshal(found.Items[i].Body, &t.tokenRecord); err != nil {
			return page, err
		}
		page.Items = append(page.Items, t)
	}
	return page, nil
}

// Token returns one token.
func (p *Plane) Token(ctx context.Context, id string) (Token, error) {
	var t Token
	found, err := read(ctx, &p.journal.Reader, tokenRef(id), &t.tokenRecord)
	t.Meta = metaOf(&found)
	return t, err
}

// RevokeToken takes a token away.
func (p *Plane) RevokeToken(ctx context.Context, id string, m Mutation) error {
	t, err := p.Token(ctx, id)
	if err != nil {
		return err
	}
	if m.Match != nil && *m.Match != t.Revision {
		return coded(&journal.StaleError{Ref: tokenRef(id), Current: t.Revision})
	}
	if m.DryRun {
		return nil
	}
	_, _, err = p.commit(ctx, m, journal.Change{Kind: "token.revoke", Subject: id, Deletes: []journal.Ref{tokenRef(id)}})
	return err
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

func (b *tokenBook) find(secret string) (tokenRecord, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	r, ok := b.byHash[tokenHash(secret)]
	return r, ok
}
