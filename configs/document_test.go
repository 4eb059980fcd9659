package configs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse/configs"
)

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// The shipped documents have no fault, alone or from the embedded copy.
func TestExamples(t *testing.T) {
	for _, name := range []string{"demo.yaml", "tenants.yaml"} {
		if set := configs.Load(name); len(set.Problems) > 0 {
			t.Errorf("%s:\n%v", name, set.Problems)
		}
	}
	err := fs.WalkDir(configs.Examples, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		embedded, err := configs.Examples.ReadFile(path)
		if err != nil {
			return err
		}
		if onDisk, err := os.ReadFile(path); err != nil || string(embedded) != string(onDisk) {
			t.Errorf("%s is not as embedded: %v", path, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestNames(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, name := range []string{"d/b.yaml", "d/a.yml", "d/c.json", "d/.d.yaml", "d/e.yaml.bak", "d/f.yaml/g.yaml", "d/README.md"} {
		write(t, name, "")
	}
	f := func(path string, want ...string) {
		t.Helper()
		got, err := configs.Names(path)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v (%v)", path, got, want, err)
		}
	}
	f("d", "d/a.yml", "d/b.yaml", "d/c.json")
	f("d/README.md", "d/README.md") // named by hand
	f("d/f.yaml", "d/f.yaml/g.yaml")
	if _, err := configs.Names("none"); err == nil {
		t.Error("a path that does not exist has names")
	}
}

// A file has changed when it or a key file it names has another time or size,
// comes, or goes. One that was fresh when it was read may have changed.
func TestChanged(t *testing.T) {
	t.Chdir(t.TempDir())
	hour := time.Now().Add(-time.Hour)
	age := func(name string, at time.Time) {
		t.Helper()
		if err := os.Chtimes(name, at, at); err != nil {
			t.Fatal(err)
		}
	}
	const source = "tenants: [{id: a, identity: {jwt: [{issuer: i, audience: [x], algorithms: [RS256], jwks_file: keys/set.json}]}}]\n"
	f := func(what string, want bool, change func()) {
		t.Helper()
		write(t, "a.yaml", source)
		write(t, "keys/set.json", "{}")
		age("a.yaml", hour)
		age("keys/set.json", hour)
		file := configs.ReadFile("a.yaml")
		change()
		if got := file.Changed(configs.NewDisk()); got != want {
			t.Errorf("%s: changed is %v", what, got)
		}
	}
	remove := func(name string) {
		t.Helper()
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	f("nothing", false, func() {})
	f("another size", true, func() { write(t, "a.yaml", source+"#"); age("a.yaml", hour) })
	f("another time", true, func() { age("a.yaml", hour.Add(time.Second)) })
	f("the file goes", true, func() { remove("a.yaml") })
	f("the key file changes", true, func() { write(t, "keys/set.json", "{ }"); age("keys/set.json", hour) })
	f("the key file goes", true, func() { remove("keys/set.json") })
	f("another file", false, func() { write(t, "keys/other.json", "{}") })

	write(t, "a.yaml", source)
	if file := configs.ReadFile("a.yaml"); !file.Changed(configs.NewDisk()) {
		t.Error("a file written just before it was read is taken for settled")
	}
	remove("keys/set.json")
	age("a.yaml", hour)
	file := configs.ReadFile("a.yaml")
	if file.Changed(configs.NewDisk()) {
		t.Error("a key file that is still not there has changed")
	}
	write(t, "keys/set.json", "{}")
	if !file.Changed(configs.NewDisk()) {
		t.Error("a key file that came has not changed")
	}
}

// A secret loses one newline, of either kind, and no more.
func TestSecretFile(t *testing.T) {
	t.Chdir(t.TempDir())
	const secret = "0123456789abcdef0123456789abcdef"
	f := func(content, want string) {
		t.Helper()
		write(t, "hs.secret", content)
		file := configs.Parse("a.yaml", []byte("tenants: [{id: a, identity: {jwt: [{issuer: i, audience: [x], algorithms: [HS256], secret_file: hs.secret}]}}]\n"))
		if len(file.Problems) > 0 {
			t.Fatal(file.Problems)
		}
		if got := string(file.Document.Tenants[0].Identity.JWT[0].Secret); got != want {
			t.Errorf("%q is read as %q, want %q", content, got, want)
		}
	}
	f(secret, secret)
	f(secret+"\n", secret)
	f(secret+"\r\n", secret)
	f(secret+"\n\n", secret+"\n")
	f(" "+secret+" \n", " "+secret+" ")
}

// Faults of files read together are told in each file's own places.
func TestJoin(t *testing.T) {
	a := configs.Parse("a.yaml", []byte("tenants:\n  - id: a\n    plan: p\n"))
	b := configs.Parse("b.yaml", []byte("plans: [{id: p}]\ntenants:\n  - id: b\n  - id: a\n"))
	set := configs.Join(a, b)
	if got := len(set.Document.Plans) + len(set.Document.Tenants); got != 4 {
		t.Errorf("%d plans and tenants", got)
	}
	const want = "b.yaml:4:9: tenant \"a\" is defined twice\n  4 |   - id: a\n    |         ^\n  also: a.yaml:2:9"
	if got := set.Problems.Error(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if !set.Problems.At(configs.Place{File: "b.yaml", Line: 4, Column: 9}) || set.Problems.At(configs.Place{File: "a.yaml", Line: 4, Column: 9}) {
		t.Error("At does not find the problem's place, or another")
	}
	empty := configs.Parse("c.yaml", nil)
	if !empty.Empty() || a.Empty() {
		t.Error("only a file that defines nothing is empty")
	}
	empty.Refuse("is too old", "write a new one")
	if got := configs.Join(a, empty).Problems; !strings.Contains(got.Error(), "c.yaml: is too old\n  hint: write a new one") {
		t.Errorf("refused: %v", got)
	}
}
