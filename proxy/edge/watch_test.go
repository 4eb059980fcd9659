package edge

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestStart: every faulty pair is named, with its path.
func TestStart(t *testing.T) {
	a := newAuthority(t)
	folder := t.TempDir()
	f := func(want ...string) {
		t.Helper()
		_, err := NewTLS(TLSConfig{Folder: folder})
		contains(t, err, want...)
		if err != nil && strings.Contains(err.Error(), "PRIVATE KEY-----") {
			t.Errorf("the error shows a key: %v", err)
		}
	}
	f("folder " + folder + " has no pair of NAME.crt and NAME.key")
	a.put(t, folder, "good", leaf{names: []string{"a.test"}})
	a.put(t, folder, "default", leaf{})
	save(t, filepath.Join(folder, "notes.txt"), []byte("not of a pair"))
	save(t, filepath.Join(folder, ".hidden.crt"), []byte("nor this"))
	newTLS(t, TLSConfig{Folder: folder})

	chain, key := a.issue(t, leaf{names: []string{"b.test"}})
	other, _ := a.issue(t, leaf{names: []string{"b.test"}})
	at := func(name string) string { return filepath.Join(folder, name) }
	save(t, at("half.crt"), chain)
	save(t, at("lone.key"), key)
	save(t, at("mixed.crt"), other)
	save(t, at("mixed.key"), key)
	save(t, at("swapped.crt"), key)
	save(t, at("swapped.key"), chain)
	save(t, at("huge.crt"), make([]byte, pairLimit+1))
	save(t, at("huge.key"), key)
	a.put(t, folder, "nameless", leaf{})
	f("half.key: no such file", "lone.crt: no such file", at("mixed.crt")+" with mixed.key: tls: private key does not match public key",
		at("swapped.crt"), at("huge.crt")+": more than 1048576 bytes", at("nameless.crt")+" names no DNS name")
	folder += "/none"
	f("read certificates: open " + folder + ": no such file or directory")
}

// names asks what certificate each name gets; - for none.
func (t *TLS) names(names ...string) string {
	var b strings.Builder
	s := t.shelf.Load()
	for _, n := range names {
		c := "-"
		if s.has(n) {
			c = s.find(n, &tls.ClientHelloInfo{}).Leaf.Subject.CommonName
		}
		fmt.Fprintf(&b, "%s ", c)
	}
	return strings.TrimSpace(b.String())
}

// TestReload: what is good applies, and a fault keeps what was there.
func TestReload(t *testing.T) {
	a, folder := newAuthority(t), t.TempDir()
	var log syncBuffer
	a.put(t, folder, "a", leaf{names: []string{"a.test"}, common: "a1"})
	a.put(t, folder, "b", leaf{names: []string{"b.test"}, common: "b1", life: -time.Hour})
	x := newTLS(t, TLSConfig{Folder: folder, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if s := log.String(); !strings.Contains(s, "b.crt") || strings.Contains(s, "a.crt") {
		t.Errorf("log: %s", s)
	}
	f := func(want string, faults ...string) {
		t.Helper()
		err := x.Reload()
		if len(faults) > 0 {
			contains(t, err, faults...)
		} else if err != nil {
			t.Error(err)
		}
		if got := x.names("a.test", "b.test", "c.test"); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	before := x.shelf.Load()
	f("a1 b1 -")
	if x.shelf.Load() != before {
		t.Error("a reload without change replaced the shelf")
	}
	a.put(t, folder, "c", leaf{names: []string{"c.test"}, common: "c1"})
	save(t, filepath.Join(folder, "a.key"), []byte("rubbish"))
	f("a1 b1 c1", "a.crt with a.key")
	a.put(t, folder, "a", leaf{names: []string{"a.test"}, common: "a2"})
	f("a2 b1 c1")
	if got := fmt.Sprintf("%d %s %s %v", len(x.Expiry()), x.Expiry()[0].Name, x.Expiry()[2].Name, time.Until(x.Expiry()[0].NotAfter).Round(time.Hour)); got != "3 a c 1h0m0s" {
		t.Errorf("expiry: %s", got)
	}
	remove(t, folder, "b.crt")
	f("a2 b1 c1", "b.crt: no such file")
	remove(t, folder, "b.key")
	f("a2 - c1")
	remove(t, folder, "a.crt", "a.key", "c.crt", "c.key")
	f("a2 - c1", "has no pair")
	if err := os.Remove(folder); err != nil {
		t.Fatal(err)
	}
	f("a2 - c1", "read certificates")
	if strings.Contains(log.String(), "PRIVATE") {
		t.Errorf("log: %s", log.String())
	}
}

func remove(t testing.TB, folder string, names ...string) {
	t.Helper()
	for _, n := range names {
		if err := os.Remove(filepath.Join(folder, n)); err != nil {
			t.Fatal(err)
		}
	}
}

// run runs x until the test ends.
func run(t testing.TB, x *TLS) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- x.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestWatch: files may be written, renamed over, removed; a fault is logged
// and changes nothing.
func TestWatch(t *testing.T) {
	a, folder := newAuthority(t), filepath.Join(t.TempDir(), "certs")
	mkdir(t, folder)
	var log syncBuffer
	a.put(t, folder, "a", leaf{names: []string{"a.test"}, common: "a1"})
	x := newTLS(t, TLSConfig{Folder: folder, Log: slog.New(slog.NewTextHandler(&log, nil))})
	a.put(t, folder, "b", leaf{names: []string{"b.test"}, common: "b1"}) // before Run
	run(t, x)
	f := func(want string) {
		t.Helper()
		eventually(t, want, func() bool { return x.names("a.test", "b.test") == want })
	}
	f("a1 b1")
	a.put(t, folder, "a", leaf{names: []string{"a.test"}, common: "a2"})
	f("a2 b1")
	chain, key := a.issue(t, leaf{names: []string{"a.test"}, common: "a3"})
	for name, content := range map[string][]byte{"a.crt": chain, "a.key": key} { // in place
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f("a3 b1")
	save(t, filepath.Join(folder, "a.key"), []byte("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"))
	eventually(t, "the fault is logged", func() bool { return strings.Contains(log.String(), "a.crt with a.key") })
	f("a3 b1")
	if strings.Contains(log.String(), "c2VjcmV0") {
		t.Errorf("the log shows a key: %s", log.String())
	}
	remove(t, folder, "b.crt", "b.key")
	f("a3 -")

	// The whole folder is another.
	next := folder + ".next"
	mkdir(t, next)
	a.put(t, next, "b", leaf{names: []string{"b.test"}, common: "b2"})
	if err := os.Rename(folder, folder+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, folder); err != nil {
		t.Fatal(err)
	}
	f("- b2")
	a.put(t, folder, "a", leaf{names: []string{"a.test"}, common: "a4"})
	f("a4 b2")
}

func mkdir(t testing.TB, name string) {
	t.Helper()
	if err := os.Mkdir(name, 0o700); err != nil {
		t.Fatal(err)
	}
}

// relink points a link elsewhere at once.
func relink(t testing.TB, target, link string) {
	t.Helper()
	if err := os.Symlink(target, link+".new"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(link+".new", link); err != nil {
		t.Fatal(err)
	}
}

// TestWatchLinks: links as Kubernetes makes them, a folder that is a link, and
// files that are links to a folder elsewhere.
func TestWatchLinks(t *testing.T) {
	a, root := newAuthority(t), t.TempDir()
	version := func(folder, name, common string) {
		t.Helper()
		mkdir(t, filepath.Join(folder, name))
		a.put(t, filepath.Join(folder, name), "tls", leaf{names: []string{"a.test"}, common: common})
	}
	f := func(x *TLS, want string) {
		t.Helper()
		eventually(t, want, func() bool { return x.names("a.test") == want })
	}

	mount := filepath.Join(root, "mount")
	mkdir(t, mount)
	version(mount, "..1", "v1")
	relink(t, "..1", filepath.Join(mount, "..data"))
	for _, n := range []string{"tls.crt", "tls.key"} {
		relink(t, filepath.Join("..data", n), filepath.Join(mount, n))
	}
	x := newTLS(t, TLSConfig{Folder: mount})
	run(t, x)
	for i := 2; i < 6; i++ {
		f(x, fmt.Sprint("v", i-1))
		version(mount, fmt.Sprint("..", i), fmt.Sprint("v", i))
		relink(t, fmt.Sprint("..", i), filepath.Join(mount, "..data"))
		if err := os.RemoveAll(filepath.Join(mount, fmt.Sprint("..", i-1))); err != nil {
			t.Fatal(err)
		}
	}
	f(x, "v5")

	releases := filepath.Join(root, "releases")
	mkdir(t, releases)
	version(releases, "1", "r1")
	link := filepath.Join(root, "current")
	relink(t, filepath.Join(releases, "1"), link)
	x = newTLS(t, TLSConfig{Folder: link})
	run(t, x)
	f(x, "r1")
	version(releases, "2", "r2")
	relink(t, filepath.Join(releases, "2"), link)
	f(x, "r2")
	a.put(t, filepath.Join(releases, "2"), "tls", leaf{names: []string{"a.test"}, common: "r3"})
	f(x, "r3")

	live, archive := filepath.Join(root, "live"), filepath.Join(root, "archive")
	mkdir(t, live)
	mkdir(t, archive)
	a.put(t, archive, "one", leaf{names: []string{"a.test"}, common: "l1"})
	relink(t, filepath.Join(archive, "one.crt"), filepath.Join(live, "a.crt"))
	relink(t, filepath.Join(archive, "one.key"), filepath.Join(live, "a.key"))
	x = newTLS(t, TLSConfig{Folder: live})
	run(t, x)
	f(x, "l1")
	a.put(t, archive, "one", leaf{names: []string{"a.test"}, common: "l2"})
	f(x, "l2")
}

// TestHotSwap: no handshake fails while certificates change under it.
func TestHotSwap(t *testing.T) {
	a, folder := newAuthority(t), t.TempDir()
	a.put(t, folder, "a", leaf{names: []string{"a.test"}, common: "0"})
	x := newTLS(t, TLSConfig{Folder: folder})
	run(t, x)
	l, _ := listenTCP(t, Config{TLS: x, Handshakes: 2})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer l.Close()
	wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				c := nc.(*Conn)
				defer c.Close()
				if err := c.Handshake(); err != nil {
					t.Error(err)
					return
				}
				_, _ = c.Write([]byte("x"))
				_, _ = c.Read(make([]byte, 1))
			})
		}
	})
	var latest atomic.Pointer[string] // the common name of the last handshake
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range 2 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				c := dialTLS(t, func() *net.TCPConn { return dialFreely(t, l) }, a, "a.test")
				if _, err := c.Read(make([]byte, 1)); err != nil {
					t.Error(err)
				} else {
					latest.Store(&c.ConnectionState().PeerCertificates[0].Subject.CommonName)
				}
				_ = c.Close()
			}
		})
	}
	for i := range 10 {
		want := fmt.Sprint(i + 1)
		a.put(t, folder, "a", leaf{names: []string{"a.test"}, common: want})
		eventually(t, "certificate "+want, func() bool { got := latest.Load(); return got != nil && *got == want })
	}
	close(stop)
	clients.Wait()
	if n := l.counters.Handshakes.Load(); n < 20 || counts(l.counters) != "" {
		t.Errorf("%d handshakes, %s", n, counts(l.counters))
	}
}

// dialFreely is dial without a cleanup for each of very many connections.
func dialFreely(t *testing.T, l *Listener) *net.TCPConn {
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Error(err)
		return &net.TCPConn{}
	}
	_ = c.SetDeadline(time.Now().Add(patient))
	return c.(*net.TCPConn)
}
