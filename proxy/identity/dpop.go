package identity

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/MicahParks/jwkset"
)

const (
	maxProof = 4 << 10 // bytes
	maxJTI   = 256     // bytes
	// proofWindow is how far iat may lie from now, to either side.
	proofWindow = 60 * time.Second
)

// ProofAlgorithms are those that a DPoP proof may be signed by, as the algs of
// a challenge has them (RFC 9449 section 7.1).
const ProofAlgorithms = "ES256 ES384 ES512 EdDSA PS256 PS384 PS512 RS256 RS384 RS512"

// proven is a proof that holds.
type proven struct {
	thumbprint *[sha256.Size]byte
	jti        string
	at, now    time.Time // its iat, and the request's instant
}

// prove checks a DPoP proof by RFC 9449 section 4.3, but for its use before.
// The server hands out no nonces (section 8): a proof made ahead of time is
// good for its minute, once.
//
// Whatever is cheap comes before the signature, so that only who knows the
// token's key costs a verification. It is no secret: a signature that does not
// hold counts with the others.
func (f *failures) prove(by *Presented, token []byte, want *[sha256.Size]byte, now time.Time) (p proven, err error) {
	if by.Proofs != 1 || len(by.Proof) > maxProof {
		return p, badProof(fmt.Errorf("%d DPoP fields, of %d bytes; one of at most %d is expected", by.Proofs, len(by.Proof), maxProof))
	}
	j, err := parseJWS(string(by.Proof))
	if err != nil {
		return p, badProof(err)
	}
	k, thumbprint, err := proofKey(j.header)
	if err != nil {
		return p, badProof(err)
	}
	if thumbprint != *want {
		return p, badProof(errors.New("the proof's jwk is not the key of cnf jkt"))
	}
	c, err := readObject(j.payload)
	if err != nil {
		return p, badProof(fmt.Errorf("claims: %w", err))
	}
	at, err := c.proves(by, token, now)
	if err != nil {
		return p, badProof(err)
	}
	if f.bars(by.Client, now) {
		return p, unavailable(errFailures)
	}
	if err := method(j.header.text("alg")).Verify(j.text, j.signature, k); err != nil {
		f.note(by.Client, now)
		return p, badProof(fmt.Errorf("signature is invalid: %w", err))
	}
	return proven{want, c.text("jti"), at, now}, nil
}

func badProof(cause error) error {
	return invalid(proofRefused, &Refusal{SchemeDPoP, ReasonProof, cause})
}

// proves checks the claims of a proof and returns its iat.
func (c claims) proves(by *Presented, token []byte, now time.Time) (time.Time, error) {
	at, ok, err := c.date("iat")
	switch {
	case err != nil:
		return at, err
	case !ok:
		return at, errors.New("iat is missing")
	case now.Sub(at).Abs() > proofWindow:
		return at, fmt.Errorf("iat is not within %v of now", proofWindow)
	}
	if jti := c.text("jti"); jti == "" || len(jti) > maxJTI {
		return at, fmt.Errorf("jti is missing, no string or of more than %d bytes", maxJTI)
	}
	if htm := c.text("htm"); htm != string(by.Method) {
		return at, fmt.Errorf("htm %q is not the request's method", htm)
	}
	if htu := c.text("htu"); !by.at(htu) {
		return at, fmt.Errorf("htu %q is not the request's URI", htu)
	}
	hash := sha256.Sum256(token)
	if c.text("ath") != base64.RawURLEncoding.EncodeToString(hash[:]) {
		return at, errors.New("ath is not the hash of the token")
	}
	return at, nil
}

// proofKey returns the key in a proof's header and its thumbprint.
func proofKey(h claims) (public any, thumbprint [sha256.Size]byte, err error) {
	if h.text("typ") != "dpop+jwt" {
		return nil, thumbprint, fmt.Errorf("typ %q is not dpop+jwt", h.text("typ"))
	}
	alg := h.text("alg")
	if alg == "" || strings.ContainsRune(alg, ' ') || !strings.Contains(" "+ProofAlgorithms+" ", " "+alg+" ") {
		return nil, thumbprint, fmt.Errorf("algorithm %q is not allowed", alg)
	}
	m, _ := h["jwk"].(map[string]any)
	c := claims(m)
	for _, name := range [...]string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
		if _, ok := c[name]; ok {
			return nil, thumbprint, fmt.Errorf("jwk has the private member %s", name)
		}
	}
	marshal := jwkset.JWKMarshal{
		KTY: jwkset.KTY(c.text("kty")), CRV: jwkset.CRV(c.text("crv")), X: c.text("x"), Y: c.text("y"), N: c.text("n"), E: c.text("e"),
		ALG: jwkset.ALG(c.text("alg")), USE: jwkset.USE(c.text("use")),
	}
	for _, op := range c.words("key_ops") {
		marshal.KEYOPS = append(marshal.KEYOPS, jwkset.KEYOPS(op))
	}
	k, err := readKey(&marshal)
	switch {
	case err != nil:
		return nil, thumbprint, fmt.Errorf("jwk: %w", err)
	case k == nil || !k.fits(alg):
		return nil, thumbprint, fmt.Errorf("jwk is not for algorithm %s", alg)
	}
	return k.public, thumbprintOf(k.public), nil
}

// thumbprintOf returns the SHA-256 of a public key's canonical JWK (RFC 7638
// section 3).
func thumbprintOf(public any) [sha256.Size]byte {
	encode := base64.RawURLEncoding.EncodeToString
	var text string
	switch k := public.(type) {
	case *rsa.PublicKey:
		text = `{"e":"` + encode(big.NewInt(int64(k.E)).Bytes()) + `","kty":"RSA","n":"` + encode(k.N.Bytes()) + `"}`
	case *ecdsa.PublicKey:
		point, err := k.Bytes() // 4, x and y
		if err != nil {
			panic("identity: a key that was read is not on its curve")
		}
		size := len(point) / 2
		text = `{"crv":"` + k.Curve.Params().Name + `","kty":"EC","x":"` + encode(point[1:1+size]) + `","y":"` + encode(point[1+size:]) + `"}`
	case ed25519.PublicKey:
		text = `{"crv":"Ed25519","kty":"OKP","x":"` + encode(k) + `"}`
	}
	return sha256.Sum256([]byte(text))
}

// at reports whether htu names what the client asked for, query and fragment
// aside, by the normal forms of RFC 3986 sections 6.2.2 and 6.2.3.
func (p *Presented) at(htu string) bool {
	if end := strings.IndexAny(htu, "?#"); end >= 0 {
		htu = htu[:end]
	}
	scheme, rest, ok := strings.Cut(htu, "://")
	own, port := "http", ":80"
	if p.Secure {
		own, port = "https", ":443"
	}
	if !ok || !strings.EqualFold(scheme, own) {
		return false
	}
	authority, path := rest, ""
	if slash := strings.IndexByte(rest, '/'); slash >= 0 {
		authority, path = rest[:slash], rest[slash:]
	}
	return strings.EqualFold(strings.TrimSuffix(authority, port), strings.TrimSuffix(string(p.Authority), port)) &&
		authority != "" && normalPath(path) == normalPath(string(p.Path))
}

// normalPath returns a path with its unreserved characters decoded, its other
// escapes in upper case and its dot segments removed.
func normalPath(path string) string {
	text := make([]byte, 0, len(path))
	for i := 0; i < len(path); i++ {
		if path[i] == '%' && i+2 < len(path) {
			hi, lo := unhex(path[i+1]), unhex(path[i+2])
			if c := hi<<4 | lo; hi < 16 && lo < 16 {
				if unreserved(c) {
					text = append(text, c)
				} else {
					text = append(text, '%', upper[hi], upper[lo])
				}
				i += 2
				continue
			}
		}
		text = append(text, path[i])
	}
	var kept []string
	segments := strings.Split(strings.TrimPrefix(string(text), "/"), "/")
	for i, s := range segments {
		switch s {
		case ".", "..":
			if s == ".." && len(kept) > 0 {
				kept = kept[:len(kept)-1]
			}
			if i == len(segments)-1 {
				kept = append(kept, "")
			}
		default:
			kept = append(kept, s)
		}
	}
	return "/" + strings.Join(kept, "/")
}

const upper = "0123456789ABCDEF"

// unhex returns the value of a hexadecimal digit, 16 of anything else.
func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 16
}

// unreserved is that of RFC 3986 section 2.3.
func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0
}
