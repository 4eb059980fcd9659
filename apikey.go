package gatehouse

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"math/big"
	"strings"
)

// KeyPrefix begins every API key, so that scanners find leaked ones.
const KeyPrefix = "gh_"

// A key is the prefix, 256 random bits in 43 base-62 digits and the CRC-32 of
// both in 6 more. The checksum lets a gateway refuse a mistyped or made-up
// key without a look-up, and a scanner tell a key from noise.
const (
	keyDigits    = 43
	keySumDigits = 6
	// KeyLength is the length of every API key in bytes.
	KeyLength = len(KeyPrefix) + keyDigits + keySumDigits
)

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// APIKey is the secret of an API key. It never prints itself.
type APIKey string

// NewAPIKey makes a key from 32 bytes of random, usually crypto/rand.Reader.
func NewAPIKey(random io.Reader) (APIKey, error) {
	var raw [32]byte
	if _, err := io.ReadFull(random, raw[:]); err != nil {
		return "", err
	}
	body := KeyPrefix + digits62(new(big.Int).SetBytes(raw[:]), keyDigits)
	return APIKey(body + keySum(body)), nil
}

// WellFormedKey reports whether s has the length, prefix, digits and checksum
// of an API key. It says nothing of whether the key exists.
func WellFormedKey[T string | []byte](s T) bool {
	if len(s) != KeyLength || string(s[:len(KeyPrefix)]) != KeyPrefix {
		return false
	}
	const split = KeyLength - keySumDigits
	var told uint32
	bad := byte(0)
	for i := split; i < KeyLength; i++ {
		d := values62[s[i]]
		told, bad = told*62+uint32(d), bad|d
	}
	for i := len(KeyPrefix); i < split; i++ {
		bad |= values62[s[i]]
	}
	return bad < noDigit && told == crc32.ChecksumIEEE([]byte(s[:split])) && string(s[split:]) <= maxKeySum
}

// values62 are the values of the digits by their letters, noDigit for what is
// none.
var values62 = func() (values [256]byte) {
	for c := range values {
		values[c] = noDigit
	}
	for v, c := range base62 {
		values[c] = byte(v)
	}
	return values
}()

const (
	noDigit = 0x80
	// maxKeySum is 2^32-1 in six digits: above it the sum would wrap.
	maxKeySum = "4gfFC3"
)

// Reveal returns the secret. It is shown to its owner once and never stored.
func (k APIKey) Reveal() string { return string(k) }

// Hash returns what is stored of the key.
func (k APIKey) Hash() KeyHash { return KeyHash(sha256.Sum256([]byte(k))) }

// Format hides the secret whatever the verb: %d would show it past String.
func (APIKey) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redacted) }

// String hides the secret.
func (APIKey) String() string { return redacted }

// GoString hides the secret.
func (APIKey) GoString() string { return redacted }

// MarshalText hides the secret.
func (APIKey) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue hides the secret.
func (APIKey) LogValue() slog.Value { return slog.StringValue(redacted) }

func keySum(body string) string {
	return digits62(big.NewInt(int64(crc32.ChecksumIEEE([]byte(body)))), keySumDigits)
}

func digits62(n *big.Int, width int) string {
	out := make([]byte, width)
	base, rem := big.NewInt(62), new(big.Int)
	for i := width - 1; i >= 0; i-- {
		n.DivMod(n, base, rem)
		out[i] = base62[rem.Int64()]
	}
	return string(out)
}

// KeyHash is the SHA-256 of an API key. A key has 256 random bits, so a fast
// hash is enough: there is nothing to guess.
type KeyHash [sha256.Size]byte

const keyHashPrefix = "sha256:"

// UnmarshalText parses sha256: and 64 hexadecimal digits.
func (h *KeyHash) UnmarshalText(b []byte) error {
	digits, ok := strings.CutPrefix(string(b), keyHashPrefix)
	raw, err := hex.DecodeString(digits)
	if !ok || err != nil || len(raw) != len(h) {
		return errors.New(`"sha256:" and 64 hexadecimal digits are expected`)
	}
	copy(h[:], raw)
	return nil
}

// MarshalText writes what UnmarshalText reads.
func (h KeyHash) MarshalText() ([]byte, error) {
	return hex.AppendEncode([]byte(keyHashPrefix), h[:]), nil
}
