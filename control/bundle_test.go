package control

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
)

// packed makes a tar.gz of names and contents.
func packed(t *testing.T, files ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	archive := tar.NewWriter(zipped)
	for i := 0; i < len(files); i += 2 {
		if err := archive.WriteHeader(&tar.Header{Name: files[i], Mode: 0o600, Size: int64(len(files[i+1])), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write([]byte(files[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zipped.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// signed is a .signatures.json over names and contents.
func signed(t *testing.T, alg string, sign func(text []byte) []byte, files ...string) string {
	t.Helper()
	var list []map[string]string
	for i := 0; i < len(files); i += 2 {
		sum := sha256.Sum256([]byte(files[i+1]))
		list = append(list, map[string]string{"name": files[i], "hash": hex.EncodeToString(sum[:]), "algorithm": "SHA-256"})
	}
	claims, err := json.Marshal(map[string]any{"files": list})
	if err != nil {
		t.Fatal(err)
	}
	text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"`+alg+`"}`)) + "." + base64.RawURLEncoding.EncodeToString(claims)
	return fmt.Sprintf(`{"signatures":[%q]}`, text+"."+base64.RawURLEncoding.EncodeToString(sign([]byte(text))))
}

func TestBundle(t *testing.T) {
	const module, test = "package gatehouse.tenant\nallow := true", "package gatehouse.tenant_test\ntest_x if true"
	f := func(key *BundleKey, bundle []byte, want string) {
		t.Helper()
		p := &Plane{signing: key}
		in, err := p.Bundle(bundle)
		got := ""
		for _, m := range in.Modules {
			got += m.Name + " "
		}
		for _, m := range in.Tests {
			got += "test:" + m.Name + " "
		}
		if err != nil {
			if gatehouse.CodeOf(err) != gatehouse.CodeInvalid {
				t.Error(err)
			}
			got = err.Error()
		}
		if !strings.Contains(got, want) {
			t.Errorf("%s, want %s", got, want)
		}
	}
	plain := packed(t, "./main.rego", module, "/lib/util.rego", module, "lib/util_test.rego", test, ".manifest", "{}", "data.json", "{}")
	f(nil, plain, "main.rego lib_util.rego test:lib_util_test.rego ")
	f(nil, packed(t, "main.rego", module, "data.json", `{"a":1}`), "only Rego modules are supported")
	f(nil, packed(t, "../main.rego", module), "no plain file")
	f(nil, []byte("nonsense"), "not gzip")
	f(nil, plain[:len(plain)/2], "cannot be read")
	f(nil, packed(t, "main.rego", strings.Repeat(" ", maxBundle+1)), "16 MiB") // a small file of blanks
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	es, err := NewBundleKey(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	if err != nil {
		t.Fatal(err)
	}
	signES := func(text []byte) []byte {
		sum := sha256.Sum256(text)
		r, s, err := ecdsa.Sign(rand.Reader, private, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	}
	secret := strings.Repeat("s", 32)
	hs, err := NewBundleKey([]byte(secret + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	signHS := func(text []byte) []byte {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write(text)
		return mac.Sum(nil)
	}
	// The public key as a secret is the classic confusion.
	signConfused := func(text []byte) []byte {
		mac := hmac.New(sha256.New, der)
		mac.Write(text)
		return mac.Sum(nil)
	}
	one := []string{"main.rego", module}
	with := func(signature string, files ...string) []byte {
		return packed(t, append([]string{".signatures.json", signature}, files...)...)
	}
	f(es, with(signed(t, "ES256", signES, one...), one...), "main.rego ")
	f(hs, with(signed(t, "HS256", signHS, one...), one...), "main.rego ")
	const refused = "not signed by the key"
	f(es, packed(t, one...), refused)
	f(es, with(signed(t, "HS256", signConfused, one...), one...), refused)
	f(es, with(signed(t, "none", func([]byte) []byte { return nil }, one...), one...), refused)
	f(es, with(signed(t, "ES256", signES, one...), "main.rego", module+"\n"), refused)
	f(es, with(signed(t, "ES256", signES, one...), "main.rego", module, "more.rego", module), refused)
	f(es, with(signed(t, "ES256", signES, "main.rego", module, "gone.rego", module), one...), refused)
	f(es, with(signed(t, "ES256", signES, one...), "main.rego", module, "main.rego", module), refused)
	f(hs, with(signed(t, "ES256", signES, one...), one...), refused)
	if _, err := NewBundleKey([]byte("short")); err == nil {
		t.Error("a short secret was taken")
	}
}
