package identity

import (
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// maxHeader bounds, in bytes of base64url, what is decoded before the
// signature is checked. A certificate in x5c fits.
const maxHeader = 3 << 10

var errTokenForm = errors.New("not three segments of base64url in at most 8 KiB")

// base64url refuses bits that carry nothing, so that a token has one spelling.
var base64url = base64.RawURLEncoding.Strict()

// jws is a signed text in compact form (RFC 7515 section 7.1) of which nothing
// has been verified.
type jws struct {
	text      string // what is signed: header, dot, payload
	header    claims
	payload   []byte
	signature []byte
}

// parseJWS takes a text apart and refuses what no signature of ours may have.
func parseJWS(token string) (j jws, err error) {
	if !compact(token) {
		return j, errTokenForm
	}
	end := strings.LastIndexByte(token, '.')
	j.text = token[:end]
	header, payload, _ := strings.Cut(j.text, ".")
	if len(header) > maxHeader {
		return j, fmt.Errorf("header of more than %d bytes", maxHeader)
	}
	text, err := base64url.DecodeString(header)
	if err != nil {
		return j, fmt.Errorf("header: %w", err)
	}
	if j.header, err = readObject(text); err != nil {
		return j, fmt.Errorf("header: %w", err)
	}
	if err := j.header.plain(); err != nil {
		return j, err
	}
	if j.payload, err = base64url.DecodeString(payload); err != nil {
		return j, fmt.Errorf("claims: %w", err)
	}
	if j.signature, err = base64url.DecodeString(token[end+1:]); err != nil {
		return j, fmt.Errorf("signature: %w", err)
	}
	return j, nil
}

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

// plain refuses a header that changes how the rest is read: no extension is
// understood, and what is compressed, encrypted, detached or nested is no
// token of ours.
func (h claims) plain() error {
	for _, name := range [...]string{"crit", "b64", "zip", "enc"} {
		if _, ok := h[name]; ok {
			return fmt.Errorf("header member %s is not understood", name)
		}
	}
	if v, ok := h["cty"]; ok {
		if cty, _ := v.(string); mediaType(cty) != "json" {
			return fmt.Errorf("cty %q: nested tokens are not read", cty)
		}
	}
	return nil
}

// mediaType is a typ or cty in lower case and without "application/" (RFC 7515
// section 4.1.9).
func mediaType(s string) string { return strings.TrimPrefix(strings.ToLower(s), "application/") }

// method returns the verifier of an algorithm by its exact name (RFC 7515
// section 4.1.1), nil for none and whatever is not supported.
func method(alg string) jwt.SigningMethod {
	switch m := jwt.GetSigningMethod(alg).(type) {
	case *jwt.SigningMethodRSAPSS:
		// The library would take a salt of any length; RFC 7518 section 3.5
		// fixes it to the hash's.
		return &jwt.SigningMethodRSAPSS{SigningMethodRSA: m.SigningMethodRSA, VerifyOptions: &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}}
	case *jwt.SigningMethodRSA, *jwt.SigningMethodECDSA, *jwt.SigningMethodEd25519, *jwt.SigningMethodHMAC:
		return m
	}
	return nil
}

// IsJWT reports whether a bearer token has the form of a JSON Web Token, signed
// or encrypted, well made or not: a JSON object in base64url before its first
// dot. Other tokens are opaque. It does not allocate.
func IsJWT(token []byte) bool {
	n := 0
	for n < len(token) && token[n] != '.' {
		n++
	}
	if n == len(token) || n == 0 {
		return false
	}
	if n > maxHeader {
		return token[0] == 'e'
	}
	var buf [maxHeader * 3 / 4]byte
	m, err := base64.RawURLEncoding.Decode(buf[:], token[:n])
	if err != nil {
		return false
	}
	i := skipSpace(buf[:m], 0)
	return i < m && buf[i] == '{'
}
