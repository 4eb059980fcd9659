package control

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// Of a thousand documents the one that was saved is looked at, and those that
// name the key file that was.
func TestLoadsWhatIsHinted(t *testing.T) {
	dir := t.TempDir()
	book := NewBook(plane{}.apply)
	f := NewFiles(dir, book, slog.New(slog.DiscardHandler))
	put := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tenant := func(id, name, keys string) string {
		return fmt.Sprintf("tenants: [{id: %s, name: %s, identity: {jwt: [{issuer: i, audience: [x], algorithms: [RS256], jwks_file: %s}]}}]", id, name, keys)
	}
	put("one.jwks", "1")
	put("two.jwks", "1")
	put("a.yaml", tenant("a", "first", "one.jwks"))
	put("b.yaml", tenant("b", "first", "one.jwks"))
	put("c.yaml", tenant("c", "first", "two.jwks"))
	f.Load()
	state := func() string {
		var all []string
		for _, x := range book.Tenants() {
			all = append(all, fmt.Sprint(x.ID, x.Name, x.Identity.JWT[0].JWKS))
		}
		return strings.Join(all, " ")
	}
	step := func(what, event, want string, moves bool) {
		t.Helper()
		h := newHint()
		if event != "" && !f.concerns(filepath.Join(dir, event), h) {
			t.Errorf("%s: %s is of no concern", what, event)
		}
		if moved := f.load(h); moved != moves || state() != want {
			t.Errorf("%s: %s, moved %v", what, state(), moved)
		}
	}
	put("a.yaml", tenant("a", "second", "one.jwks"))
	put("c.yaml", tenant("c", "second", "two.jwks"))
	step("nothing is said", "", "afirst1 bfirst1 cfirst1", false)
	step("a document", "a.yaml", "asecond1 bfirst1 cfirst1", false)
	put("one.jwks", "22")
	put("two.jwks", "22")
	step("a key file of two", "one.jwks", "asecond22 bfirst22 cfirst1", false)
	step("the folder", ".", "asecond22 bfirst22 csecond22", true)
	put("b.yaml", tenant("b", "third", "two.jwks"))
	step("other key files", "b.yaml", "asecond22 bthird22 csecond22", true)
	put("two.jwks", "333")
	step("which are known from then on", "two.jwks", "asecond22 bthird333 csecond333", false)
	put("d.yaml", tenant("d", "first", "two.jwks"))
	step("a new document", "d.yaml", "asecond22 bthird333 csecond333 dfirst333", true)
	if err := os.Remove(filepath.Join(dir, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	step("one less", "a.yaml", "bthird333 csecond333 dfirst333", true)
}

// Documents that a folder of links leads to, as Kubernetes mounts a ConfigMap,
// are read when the links lead elsewhere.
func TestMountedConfigMap(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "tenants")
	keys := filepath.Join(base, "keys")
	link := func(to, name string) {
		t.Helper()
		if err := os.Symlink(to, name+".new"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(name+".new", name); err != nil {
			t.Fatal(err)
		}
	}
	mount := func(dir, version, name, text string) {
		t.Helper()
		at := filepath.Join(dir, ".."+version)
		if err := os.MkdirAll(at, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(at, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		link(".."+version, filepath.Join(dir, "..data"))
	}
	document := func(name string) string {
		return "tenants: [{id: a, name: " + name + ", identity: {jwt: [{issuer: i, audience: [x], algorithms: [RS256], jwks_file: " + filepath.Join(keys, "i.jwks") + "}]}}]"
	}
	mount(keys, "1", "i.jwks", "one")
	mount(dir, "1", "a.yaml", document("one"))
	link(filepath.Join("..data", "i.jwks"), filepath.Join(keys, "i.jwks"))
	link(filepath.Join("..data", "a.yaml"), filepath.Join(dir, "a.yaml"))

	came := make(chan string, 10)
	book := NewBook(func(u gatehouse.Update) gatehouse.Outcome {
		out := gatehouse.Outcome{Revision: u.Revision}
		for _, x := range u.Tenants {
			came <- x.Name + "/" + x.Identity.JWT[0].JWKS
			out.Applied = append(out.Applied, x.ID)
		}
		return out
	})
	f := NewFiles(dir, book, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- f.Run(ctx, nil) }()
	var got []string
	for _, next := range []func(){
		func() {},
		func() { mount(dir, "2", "a.yaml", document("two")) },
		func() { mount(keys, "2", "i.jwks", "two") },
		func() { mount(dir, "3", "a.yaml", document("three")) },
	} {
		next()
		select {
		case is := <-came:
			got = append(got, is)
		case <-time.After(10 * time.Second):
			t.Error("what was mounted is not read")
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if want := []string{"one/one", "two/one", "two/two", "three/two"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}
