package control

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
)

// signatureFile holds the signature of a bundle: OPA's .signatures.json, a JSON
// Web Token whose claim files lists every other file with its SHA-256.
const signatureFile = ".signatures.json"

// BundleKey verifies signed bundles: by RS256 or ES256 with a public key, or by
// HS256 with a secret.
type BundleKey struct {
	public crypto.PublicKey
	secret []byte
}

// NewBundleKey reads a PEM public key (RSA, or ECDSA on P-256), or takes the
// text as a secret of at least 32 bytes.
func NewBundleKey(text []byte) (*BundleKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		secret := []byte(strings.TrimSpace(string(text)))
		if len(secret) < sha256.Size {
			return nil, fmt.Errorf("the secret of bundles has %d bytes, fewer than %d", len(secret), sha256.Size)
		}
		return &BundleKey{secret: secret}, nil
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the public key of bundles: %w", err)
	}
	switch k := key.(type) {
	case *rsa.PublicKey:
	case *ecdsa.PublicKey:
		if k.Curve.Params().BitSize != 256 {
			return nil, errors.New("the public key of bundles is not on P-256")
		}
	default:
		return nil, fmt.Errorf("the public key of bundles is a %T", key)
	}
	return &BundleKey{public: key}, nil
}

// verify holds every file against the signature.
func (k *BundleKey) verify(files []bundleFile) error {
	var signatures struct {
		Signatures []string `json:"signatures"`
	}
	sums := map[string]string{}
	for _, f := range files {
		if f.name != signatureFile {
			sum := sha256.Sum256(f.content)
			if _, twice := sums[f.name]; twice {
				return fmt.Errorf("%s is given twice", f.name)
			}
			sums[f.name] = hex.EncodeToString(sum[:])
			continue
		}
		if err := json.Unmarshal(f.content, &signatures); err != nil {
			return fmt.Errorf("%s: %w", signatureFile, err)
		}
	}
	if len(signatures.Signatures) != 1 {
		return fmt.Errorf("%d signatures, not one", len(signatures.Signatures))
	}
	payload, err := k.open(signatures.Signatures[0])
	if err != nil {
		return err
	}
	var claims struct {
		Files []struct {
			Name      string `json:"name"`
			Hash      string `json:"hash"`
			Algorithm string `json:"algorithm"`
		} `json:"files"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		return fmt.Errorf("claims: %w", err)
	}
	for _, f := range claims.Files {
		name := strings.TrimPrefix(f.Name, "/")
		// OPA hashes JSON files by their values; these hold nothing that is used.
		structured := name == ".manifest" || strings.HasSuffix(name, ".json")
		if sum, ok := sums[name]; !ok || !structured && (f.Algorithm != "SHA-256" || !strings.EqualFold(sum, f.Hash)) {
			return fmt.Errorf("%s is missing, or not what was signed", name)
		}
		delete(sums, name)
	}
	for name := range sums {
		return fmt.Errorf("%s is not signed", name)
	}
	return nil
}

// open verifies a compact JSON Web Signature and returns its payload.
func (k *BundleKey) open(token string) ([]byte, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, errors.New("the signature is no compact JWS")
	}
	var raw [3][]byte
	for i := range parts {
		var err error
		if raw[i], err = base64.RawURLEncoding.Strict().DecodeString(parts[i]); err != nil {
			return nil, fmt.Errorf("the signature: %w", err)
		}
	}
	var header struct {
		Alg  string          `json:"alg"`
		Crit json.RawMessage `json:"crit"`
	}
	if err := json.Unmarshal(raw[0], &header); err != nil || header.Crit != nil {
		return nil, errors.New("the signature's header is not understood")
	}
	signed := []byte(parts[0] + "." + parts[1])
	sum := sha256.Sum256(signed)
	switch key := k.public.(type) {
	case *rsa.PublicKey:
		if header.Alg == "RS256" && rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], raw[2]) == nil {
			return raw[1], nil
		}
	case *ecdsa.PublicKey:
		const half = 32
		if header.Alg == "ES256" && len(raw[2]) == 2*half &&
			ecdsa.Verify(key, sum[:], new(big.Int).SetBytes(raw[2][:half]), new(big.Int).SetBytes(raw[2][half:])) {
			return raw[1], nil
		}
	default:
		mac := hmac.New(sha256.New, k.secret)
		mac.Write(signed)
		if header.Alg == "HS256" && hmac.Equal(mac.Sum(nil), raw[2]) {
			return raw[1], nil
		}
	}
	return nil, fmt.Errorf("the signature by %q does not hold", header.Alg)
}
