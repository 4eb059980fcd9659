package gatehouse_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
	"pgregory.net/rapid"
)

func newKey(t interface{ Fatal(...any) }, random []byte) gatehouse.APIKey {
	k, err := gatehouse.NewAPIKey(bytes.NewReader(random))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// The form of keys is for good: those that are out must stay well-formed.
func TestAPIKeyForm(t *testing.T) {
	f := func(random byte, want string) {
		t.Helper()
		if got := newKey(t, bytes.Repeat([]byte{random}, 32)).Reveal(); got != want {
			t.Errorf("32 bytes %#x: got %s, want %s", random, got, want)
		}
	}
	f(0x00, "gh_"+strings.Repeat("0", 43)+"1tYKVq")
	f(0x01, "gh_0El6XFXwsUFD8J2vGxsaboW7rZYnQRBP5d9erwRwd291P2HtZ")
	f(0x02, "gh_0TWD4V5tkyUQGc5qXvlBDd2Fj97aqsMoBGJJjsttG4I44mzO2")

	if _, err := gatehouse.NewAPIKey(strings.NewReader("too short")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("short of random bytes: %v", err)
	}
}

func TestWellFormedKey(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := newKey(t, rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "random"))
		s := k.Reveal()
		if len(s) != gatehouse.KeyLength || !strings.HasPrefix(s, gatehouse.KeyPrefix) {
			t.Fatalf("%q has not the form", s)
		}
		if !gatehouse.WellFormedKey(s) || !gatehouse.WellFormedKey([]byte(s)) {
			t.Fatalf("%q is not well-formed", s)
		}
		if k.Hash() != gatehouse.KeyHash(sha256.Sum256([]byte(s))) {
			t.Fatal("the hash is not the SHA-256 of the key")
		}
		// Two neighbours swapped, the slip that is made most.
		i := rapid.IntRange(0, len(s)-2).Draw(t, "swapped")
		if s[i] != s[i+1] && gatehouse.WellFormedKey(s[:i]+s[i+1:i+2]+s[i:i+1]+s[i+2:]) {
			t.Fatalf("%q is well-formed with %d and its neighbour swapped", s, i)
		}
		if gatehouse.WellFormedKey(s[:len(s)-1]) || gatehouse.WellFormedKey(s+"0") || gatehouse.WellFormedKey(s[1:]+"0") {
			t.Fatalf("%q is well-formed in another length", s)
		}
	})
	for _, s := range []string{"", "gh_", strings.Repeat("0", gatehouse.KeyLength)} {
		if gatehouse.WellFormedKey(s) {
			t.Errorf("%q is well-formed", s)
		}
	}
}

// The checksum catches every change of a single character to any byte.
func TestKeyChecksum(t *testing.T) {
	s := []byte(newKey(t, []byte("0123456789abcdef0123456789abcdef")).Reveal())
	for i, was := range s {
		for c := range 256 {
			s[i] = byte(c)
			if s[i] != was && gatehouse.WellFormedKey(s) {
				t.Fatalf("%q, changed at %d, is well-formed", s, i)
			}
		}
		s[i] = was
	}
}

// Digits of other alphabets are refused even under a checksum that fits.
func TestKeyDigits(t *testing.T) {
	if body := gatehouse.KeyPrefix + strings.Repeat("-", 43); gatehouse.WellFormedKey(body + "05BzcT") {
		t.Error("dashes are taken for digits")
	}
}

// However a secret gets into a log or a document, it does not show.
func TestRedaction(t *testing.T) {
	const secret = "hunter2-hunter2-hunter2"
	shows := func(s string) bool {
		return strings.Contains(s, "hunter2") || strings.Contains(s, "gh_") ||
			strings.Contains(s, fmt.Sprintf("%x", "hunter2")) || strings.Contains(s, "104 117 110")
	}
	key := newKey(t, []byte("0123456789abcdef0123456789abcdef"))
	for name, v := range map[string]any{
		"key": key, "secret": gatehouse.Secret(secret),
		"pointer":  &key,
		"in slice": []gatehouse.APIKey{key},
		"in map":   map[string]gatehouse.Secret{"a": gatehouse.Secret(secret)},
		"in struct": struct {
			Key    gatehouse.APIKey
			Secret gatehouse.Secret
		}{key, gatehouse.Secret(secret)},
		"issuer":   gatehouse.Issuer{Issuer: "a", Secret: gatehouse.Secret(secret)},
		"document": gatehouse.Document{Tenants: []gatehouse.Tenant{{Identity: gatehouse.Identity{JWT: []gatehouse.Issuer{{Secret: gatehouse.Secret(secret)}}}}}},
		"error":    fmt.Errorf("key %v: %w", key, errors.New("x")),
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%08.3f"} {
			if got := fmt.Sprintf(verb, v); shows(got) {
				t.Errorf("%s: %s shows %s", name, verb, got)
			}
		}
		b, err := json.Marshal(v)
		if err != nil || shows(string(b)) {
			t.Errorf("%s: JSON shows %s (%v)", name, b, err)
		}
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("text", "value", v)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("json", "value", v)
		if shows(log.String()) {
			t.Errorf("%s: the log shows %s", name, log.String())
		}
	}
	if got := fmt.Sprint(key); got != "[redacted]" {
		t.Errorf("a key prints as %s", got)
	}
}
