package identity

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"time"

	gatehouse "github.com/gatehouse-gateway/gatehouse"
)

// Scheme is an authentication scheme of HTTP that carries a token.
type Scheme string

// The schemes.
const (
	// SchemeBearer is that of RFC 6750.
	SchemeBearer Scheme = "Bearer"
	// SchemeDPoP is that of RFC 9449: the request also has a proof.
	SchemeDPoP Scheme = "DPoP"
)

// Presented is what a request shows beside its token, to prove that it comes
// from the token's holder. Nothing of it is kept after the call.
type Presented struct {
	// Scheme is that of the Authorization field. The zero value is
	// SchemeBearer; then only Certificate is looked at.
	Scheme Scheme
	// Client is the caller's address, by which what costs most before a caller
	// is known is shared out: verifications that fail, and questions about
	// unknown tokens.
	Client netip.Addr
	// Certificate is the SHA-256 of the client certificate, DER, with which
	// the connection's TLS handshake was made; nil when there was none. It
	// need not be of an authority that the tenant knows.
	Certificate *[sha256.Size]byte
	// Proof is the value of the DPoP field, and Proofs the number of such
	// fields.
	Proof  []byte
	Proofs int
	// Method, Secure (https, else http), Authority (host, and port unless it
	// is the scheme's) and Path (as it was sent, without the query) say what
	// the client asked for, as it would write it.
	Method    []byte
	Secure    bool
	Authority []byte
	Path      []byte
}

func (p *Presented) proves() bool { return p != nil && p.Scheme == SchemeDPoP }

func (p *Presented) client() netip.Addr {
	if p == nil {
		return netip.Addr{}
	}
	return p.Client
}

func (p *Presented) scheme() Scheme {
	if p.proves() {
		return SchemeDPoP
	}
	return SchemeBearer
}

// The values of Refusal.Reason.
const (
	// ReasonToken: the token is not accepted (RFC 6750 section 3.1).
	ReasonToken = "invalid_token"
	// ReasonProof: the token may be good, its proof is not (RFC 9449 section
	// 7.1).
	ReasonProof = "invalid_dpop_proof"
)

// Refusal is the cause of an error with CodeInvalidCredential or
// CodeForeignCredential from Token and Opaque. It holds what the answer's
// WWW-Authenticate is to say; its own cause is for the operator.
type Refusal struct {
	// Scheme is that of the challenge. It is the one by which the token must
	// come, where that is known, else the one by which it came.
	Scheme Scheme
	// Reason is the challenge's error: ReasonToken or ReasonProof. A challenge
	// of SchemeDPoP also has algs, which is ProofAlgorithms.
	Reason string
	// Err is what was found.
	Err error
}

func (r *Refusal) Error() string { return r.Err.Error() }

// Unwrap returns Err.
func (r *Refusal) Unwrap() error { return r.Err }

// refuse puts a Refusal into an error of this package that has none yet.
func (p *Presented) refuse(err error) error {
	e, ok := errors.AsType[*gatehouse.Error](err)
	if !ok || e.Code == gatehouse.CodeIdentityUnavailable {
		return err
	}
	return &gatehouse.Error{Code: e.Code, Message: e.Message, Err: &Refusal{p.scheme(), ReasonToken, e.Err}}
}

// binding is what a token asks its bearer to prove: the members of cnf (RFC
// 7800) that are understood.
type binding struct {
	certificate, key       [sha256.Size]byte
	byCertificate, byProof bool
}

var errConfirmation = errors.New("cnf names no way to confirm the holder that is understood")

// binding reads cnf; nil when there is none. A cnf of which nothing is
// understood is an error: the issuer wanted a proof that nobody would check.
func (c claims) binding() (*binding, error) {
	v, ok := c["cnf"]
	if !ok {
		return nil, nil
	}
	cnf, _ := v.(map[string]any)
	b := &binding{}
	var err error
	if b.certificate, b.byCertificate, err = claims(cnf).thumbprint("x5t#S256"); err != nil { // RFC 8705 section 3.1
		return nil, err
	}
	if b.key, b.byProof, err = claims(cnf).thumbprint("jkt"); err != nil { // RFC 9449 section 6.1
		return nil, err
	}
	if !b.byCertificate && !b.byProof {
		return nil, errConfirmation
	}
	return b, nil
}

// thumbprint reads a SHA-256 in base64url; ok is false when it is absent.
func (c claims) thumbprint(name string) (hash [sha256.Size]byte, ok bool, err error) {
	if _, ok := c[name]; !ok {
		return hash, false, nil
	}
	b, err := base64url.DecodeString(c.text(name))
	if err != nil || len(b) != len(hash) {
		return hash, false, fmt.Errorf("cnf member %s is not a SHA-256 in base64url", name)
	}
	return [sha256.Size]byte(b), true, nil
}

const (
	tokenHeld    = "the token is bound to a certificate or key that the request does not show"
	proofRefused = "the DPoP proof is not valid"
)

var (
	errCertificate = errors.New("the connection's certificate is not that of cnf x5t#S256")
	errDowngrade   = errors.New("the token is bound to a DPoP key and came as a bearer token")
	errNotBound    = errors.New("the token came by the DPoP scheme and is not bound to a key")
)

// hold returns who when the request proves that it comes from the token's
// holder. use notes a proof and refuses one that was used; nil: proofs are not
// used up.
func (v *Verifier) hold(who *Verified, token []byte, by *Presented, now time.Time, use func(proven) error) (*Verified, error) {
	b := who.bound
	refuse := func(s Scheme, cause error) (*Verified, error) {
		return nil, invalid(tokenHeld, &Refusal{s, ReasonToken, cause})
	}
	switch {
	case b != nil && b.byProof && !by.proves():
		return refuse(SchemeDPoP, errDowngrade)
	case by.proves() && (b == nil || !b.byProof):
		return refuse(SchemeBearer, errNotBound)
	case b == nil:
		return who, nil
	}
	if b.byCertificate && (by == nil || by.Certificate == nil || *by.Certificate != b.certificate) {
		return refuse(by.scheme(), errCertificate)
	}
	if b.byProof {
		p, err := v.failed.prove(by, token, &b.key, now)
		if err == nil && use != nil {
			err = use(p)
		}
		if err != nil {
			return nil, err
		}
	}
	return who, nil
}
