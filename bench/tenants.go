package main

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// tenant is what peers and load know of one.
type tenant struct {
	ID, Host, Backend, Key, Token string
	// Low has its limit set so that the third request in a second is refused.
	Low bool
}

// low shows that a limit trips; it is no part of the load.
func (b *bench) low() (tenant, error) {
	t := tenant{ID: "low", Host: "low.test", Backend: b.backendAddr(0), Low: true}
	var err error
	t.Token, err = b.issuer.token("user-low")
	return t, err
}

// issuer signs the bench's tokens.
type issuer struct{ key *rsa.PrivateKey }

func newIssuer() (*issuer, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	return &issuer{key}, err
}

const (
	issuerName = "https://id.bench.test/"
	audience   = "bench"
)

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// token returns one for subject that holds for a day.
func (i *issuer) token(subject string) (string, error) {
	claims, err := json.Marshal(map[string]any{
		"iss": issuerName, "aud": audience, "sub": subject, "exp": time.Now().Add(24 * time.Hour).Unix(), "roles": []string{"reader"},
	})
	if err != nil {
		return "", err
	}
	text := encode([]byte(`{"alg":"RS256","typ":"JWT","kid":"bench"}`)) + "." + encode(claims)
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, i.key, crypto.SHA256, sum[:])
	return text + "." + encode(signature), err
}

// jwks is the issuer's key set.
func (i *issuer) jwks() string {
	return fmt.Sprintf(`{"keys":[{"kty":"RSA","kid":"bench","alg":"RS256","use":"sig","n":%q,"e":%q}]}`,
		encode(i.key.N.Bytes()), encode(big.NewInt(int64(i.key.E)).Bytes()))
}

// public is the issuer's key in PEM.
func (i *issuer) public() ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(&i.key.PublicKey)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// tenants makes n of them; those that are active have backends of their own,
// the others share these and are not asked.
func (b *bench) tenants(n int) ([]tenant, error) {
	for i := len(b.made); i < n; i++ {
		t := tenant{ID: fmt.Sprintf("t%d", i), Host: fmt.Sprintf("t%d.test", i), Backend: b.backendAddr(i % active)}
		if i < active {
			sum := sha256.Sum256([]byte(t.ID))
			key, err := gatehouse.NewAPIKey(bytes.NewReader(sum[:]))
			if err != nil {
				return nil, err
			}
			t.Key = key.Reveal()
			if t.Token, err = b.issuer.token("user-" + t.ID); err != nil {
				return nil, err
			}
		}
		b.made = append(b.made, t)
	}
	return b.made[:n], nil
}
