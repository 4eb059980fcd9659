package webhook

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// Secret is one that an endpoint's messages are signed with.
type Secret struct {
	// Sealed is the secret under the sender's key; answers do not have it. Created
	// is when it was made.
	Sealed  []byte    `json:"sealed,omitempty"`
	Created time.Time `json:"created"`
	// Expires is when a replaced secret is no longer used; zero for the one in
	// force.
	Expires time.Time `json:"expires,omitzero"`
}

const (
	secretPrefix = "whsec_"
	secretSize   = 32 // the specification: 24 to 64 bytes
)

func newBox(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil || len(key) != 32 {
		return nil, fmt.Errorf("the key of webhook secrets has %d bytes, not 32", len(key))
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// secret makes one. Its text is shown once.
func (s *Sender) secret(place string) (Secret, string, error) {
	raw := make([]byte, secretSize)
	if _, err := io.ReadFull(s.Random, raw); err != nil {
		return Secret{}, "", fmt.Errorf("make a secret: %w", err)
	}
	sealed := s.box.Seal(nil, nil, raw, []byte(place))
	return Secret{Sealed: sealed, Created: s.now()}, secretPrefix + base64.StdEncoding.EncodeToString(raw), nil
}

// sign sets the header fields of a message: a signature for each secret that
// is still used, so that a secret is replaced without losing one.
func (s *Sender) sign(h http.Header, e *Endpoint, id string, at time.Time, body []byte) error {
	var signatures []string
	for _, secret := range e.Secrets {
		if !secret.Expires.IsZero() && !secret.Expires.After(at) {
			continue
		}
		raw, err := s.box.Open(nil, nil, secret.Sealed, []byte(e.place()))
		if err != nil {
			return fmt.Errorf("open the secret of webhook %s: %w", e.ID, err)
		}
		signer, err := standardwebhooks.NewWebhookRaw(raw)
		if err != nil {
			return err
		}
		signature, err := signer.Sign(id, at, body)
		if err != nil {
			return err
		}
		signatures = append(signatures, signature)
	}
	h.Set(standardwebhooks.HeaderWebhookID, id)
	h.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(at.Unix(), 10))
	h.Set(standardwebhooks.HeaderWebhookSignature, strings.Join(signatures, " "))
	return nil
}
