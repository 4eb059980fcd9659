package control

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/gatehouse-gateway/gatehouse"
)

// Documents that a folder of links leads to, as Kubernetes mounts a ConfigMap,
// are read when the links lead elsewhere.
func TestMountedConfigMap(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "tenants")
	keys := filepath.Join(base, "elsewhere", "keys")
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
		return "tenants: [{id: a, name: " + name + ", identity: {jwt: [{issuer: i, audience: [x], algorithms: [RS256], jwks_file: " + filepath.Join(base, "shown", "also.jwks") + "}]}}]"
	}
	release := filepath.Join(base, "release")
	store, moved := filepath.Join(release, "tenants"), filepath.Join(release+"-5", "tenants")
	put := func(name, text string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	mount(keys, "1", "i.jwks", "one")
	mount(dir, "1", "a.yaml", document("one"))
	link(filepath.Join("..data", "i.jwks"), filepath.Join(keys, "i.jwks"))
	link(filepath.Join("..data", "a.yaml"), filepath.Join(dir, "a.yaml"))
	// The keys are named by a link in another folder, from which ".." leads
	// elsewhere than from the folder that it is a link to.
	shown := filepath.Join(base, "shown")
	link(filepath.Join("elsewhere", "keys"), shown)
	link(filepath.Join("..", "keys", "i.jwks"), filepath.Join(keys, "also.jwks"))

	came := make(chan string, 10)
	book := NewBook(func(u gatehouse.Update) gatehouse.Outcome {
		out := gatehouse.Outcome{Revision: u.Revision}
		for _, x := range u.Tenants {
			came <- x.Name + "/" + x.Identity.JWT[0].JWKS
			out.Applied = append(out.Applied, x.ID)
		}
		return out
	})
	f := NewFiles(dir+"/", book, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- f.Run(ctx, nil) }()
	var got []string
	for _, next := range []func(){
		func() {},
		func() { mount(dir, "2", "a.yaml", document("two")) },
		func() { mount(keys, "2", "i.jwks", "two") },
		func() { mount(dir, "3", "a.yaml", document("three")) },
		func() { // a release that is renamed, and then changed
			put(filepath.Join(store, "a.yaml"), document("four"))
			link(store, filepath.Join(dir, "..data"))
		},
		func() {
			if err := os.Rename(release, release+"-5"); err != nil {
				t.Error(err)
			}
			link(moved, filepath.Join(dir, "..data"))
			put(filepath.Join(moved, "a.yaml"), document("five"))
		},
		func() { put(filepath.Join(moved, "a.yaml"), document("six")) },
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
	if want := []string{"one/one", "two/one", "two/two", "three/two", "four/two", "five/two", "six/two"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// However a folder is named, and by however many names, watching it comes to an
// end: what is not new is not looked at again.
func TestWatchRests(t *testing.T) {
	base := t.TempDir()
	t.Chdir(base)
	for name, text := range map[string]string{
		"t/a.yaml": "tenants: [{id: a, identity: {jwt: [{issuer: i, audience: [x], algorithms: [RS256], jwks_file: " + filepath.Join(base, "alias", "i.jwks") + "}]}}]",
		"t/b.yaml": "tenants: [{id: b, identity: {jwt: [{issuer: i, audience: [x], algorithms: [RS256], jwks_file: i.jwks}]}}]",
		"t/i.jwks": "keys",
	} {
		if err := errors.Join(os.MkdirAll("t", 0o700), os.WriteFile(name, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("t", "alias"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("circle", "circle"); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"t", "t/", "./t", "alias/", base + "/t", base + "/alias", "t/a.yaml", "not/there", "circle", "circle/x"} {
		w, err := fsnotify.NewWatcher()
		if err != nil {
			t.Fatal(err)
		}
		f := NewFiles(path, NewBook(plane{}.apply), slog.New(slog.DiscardHandler))
		f.Load()
		if !f.watch(w) {
			t.Errorf("%s: nothing is watched", path)
		}
		if f.Load(); f.watch(w) {
			t.Errorf("%s: the same is news again: %q", path, w.WatchList())
		}
		for _, file := range []string{"a.yaml", "i.jwks"} {
			if !strings.Contains(path, "not") && !strings.Contains(path, "circle") && !f.concerns(filepath.Join(base, "t", file), false) {
				t.Errorf("%s: %s is of no concern", path, file)
			}
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A file that a link takes the place of is watched where it is since, though it
// reads as before.
func TestReplacedByLink(t *testing.T) {
	base := t.TempDir()
	file, store := filepath.Join(base, "t", "a.yaml"), filepath.Join(base, "store", "a.yaml")
	for _, folder := range []string{"t", "store"} {
		if err := os.Mkdir(filepath.Join(base, folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(file, []byte("tenants: [{id: a}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	f := NewFiles(filepath.Dir(file), NewBook(plane{}.apply), slog.New(slog.DiscardHandler))
	f.Load()
	f.watch(w)
	if err := errors.Join(os.Rename(file, store), os.Symlink(store, file)); err != nil {
		t.Fatal(err)
	}
	if !f.concerns(file, true) {
		t.Fatal("it is of no concern")
	}
	if f.Load(); !f.watch(w) || !f.concerns(store, false) {
		t.Errorf("%q", w.WatchList())
	}
}
