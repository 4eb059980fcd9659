package control

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"
)

// box seals secrets for the journal: AES-256-GCM, with the tenant's id and the
// file's name as additional data, so that a sealed value is of use in its own
// place only.
type box struct{ aead cipher.AEAD }

func newBox(key []byte) (*box, error) {
	block, err := aes.NewCipher(key)
	if err != nil || len(key) != 32 {
		return nil, fmt.Errorf("the key of secrets has %d bytes, not 32", len(key))
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	return &box{aead}, nil
}

func (b *box) seal(place string, secret []byte) []byte {
	return b.aead.Seal(nil, nil, secret, []byte(place))
}

func (b *box) open(place string, sealed []byte) ([]byte, error) {
	secret, err := b.aead.Open(nil, nil, sealed, []byte(place))
	if err != nil {
		return nil, fmt.Errorf("open the secret %s: the key of secrets is another one than it was sealed with, or it was tampered with", place)
	}
	return secret, nil
}

// NewSecretKey makes a key for Parts.SecretKey.
func NewSecretKey() ([]byte, error) {
	key := make([]byte, 32)
	_, err := rand.Read(key)
	return key, err
}
