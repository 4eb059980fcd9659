package configs_test

import (
	"testing"

	"github.com/gatehouse-gateway/gatehouse/configs"
)

// The secrets of introspection and of forwarding are read, less one newline,
// and their files are among those whose change is noticed.
func TestIdentitySecrets(t *testing.T) {
	t.Chdir(t.TempDir())
	const secret = "0123456789abcdef0123456789abcdef"
	write(t, "client.secret", secret+"\r\n")
	write(t, "forward.secret", secret+"\n\n")
	file := configs.Parse("a.yaml", []byte(`tenants:
  - id: a
    identity:
      introspection: {url: "https://as.test/", client_id: gw, client_secret_file: client.secret}
      forward: {mode: signed, key_file: forward.secret}
`))
	if len(file.Problems) > 0 {
		t.Fatal(file.Problems)
	}
	id := file.Document.Tenants[0].Identity
	if got := string(id.Introspection.ClientSecret); got != secret {
		t.Errorf("client secret %q", got)
	}
	if got := string(id.Forward.Key); got != secret+"\n" {
		t.Errorf("key %q", got)
	}
	if len(file.Inputs) != 2 {
		t.Errorf("%d inputs", len(file.Inputs))
	}
}
