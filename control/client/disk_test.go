package client

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
	"pgregory.net/rapid"
)

// model is what a data plane holds, the plain way.
type model struct {
	at      position
	plans   map[gatehouse.PlanID]string
	tenants map[gatehouse.TenantID]string
	keys    map[string]string
}

func newModel() *model {
	return &model{plans: map[gatehouse.PlanID]string{}, tenants: map[gatehouse.TenantID]string{}, keys: map[string]string{}}
}

func (m *model) clone() *model {
	return &model{m.at, maps.Clone(m.plans), maps.Clone(m.tenants), maps.Clone(m.keys)}
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func (m *model) take(a *applied) {
	u := &a.update
	if u.Full {
		kept := m.tenants
		*m = *newModel()
		for id := range a.refused {
			if doc, ok := kept[id]; ok {
				m.tenants[id] = doc
			}
		}
	}
	m.at = position{u.Revision, u.Hash}
	for _, id := range u.RemovedPlans {
		delete(m.plans, id)
	}
	for _, id := range u.RemovedTenants {
		delete(m.tenants, id)
		for name := range m.keys {
			if strings.HasPrefix(name, string(id)+"/") {
				delete(m.keys, name)
			}
		}
	}
	for i := range u.Plans {
		m.plans[u.Plans[i].ID] = text(u.Plans[i])
	}
	for i := range u.Tenants {
		if !a.refused[u.Tenants[i].ID] {
			m.tenants[u.Tenants[i].ID] = text(gatehouse.Update{Tenants: u.Tenants[i : i+1]})
		}
	}
	for _, k := range u.Keys {
		name := string(k.Tenant) + "/" + string(k.Key.ID)
		if delete(m.keys, name); !k.Removed {
			m.keys[name] = text(k.Key)
		}
	}
}

func (m *model) String() string {
	var b strings.Builder
	fmt.Fprintln(&b, m.at.Revision, m.at.Hash)
	for _, id := range slices.Sorted(maps.Keys(m.plans)) {
		fmt.Fprintln(&b, "plan", m.plans[id])
	}
	for _, id := range slices.Sorted(maps.Keys(m.tenants)) {
		fmt.Fprintln(&b, "tenant", m.tenants[id])
	}
	for _, name := range slices.Sorted(maps.Keys(m.keys)) {
		fmt.Fprintln(&b, "key", name, m.keys[name])
	}
	return b.String()
}

// loaded is the state that a folder holds, by a new process.
func loaded(folder string, key []byte) (string, []error, error) {
	d := &disk{folder: folder, key: key, least: foldAfter}
	u, notes, err := d.load()
	d.close()
	if err != nil || u.Revision == 0 {
		return "", notes, err
	}
	m := newModel()
	m.take(&applied{update: u})
	return m.String(), notes, nil
}

func tenant(id, name string) gatehouse.Tenant {
	return gatehouse.Tenant{
		ID: gatehouse.TenantID(id), Name: name, Domain: id + ".test",
		Identity: gatehouse.Identity{JWT: []gatehouse.Issuer{{Issuer: "https://id.test/", SecretFile: "s.key", Secret: gatehouse.Secret("hush-" + id)}}},
	}
}

func full(revision uint64, tenants ...gatehouse.Tenant) applied {
	return applied{update: gatehouse.Update{
		Revision: revision, Hash: fmt.Sprintf("hash-%d", revision), Full: true,
		Plans: []gatehouse.Plan{{ID: "free"}}, Tenants: tenants,
	}}
}

func delta(revision uint64, tenants ...gatehouse.Tenant) applied {
	a := full(revision, tenants...)
	a.update.Full, a.update.Plans = false, nil
	return a
}

// Whatever is kept is read again as it is, through folds and restarts, in clear
// and encrypted.
func TestDisk(t *testing.T) {
	folders := t.TempDir()
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		folder := filepath.Join(folders, fmt.Sprint(runs))
		var key []byte
		if rapid.Bool().Draw(t, "encrypted") {
			key = bytes.Repeat([]byte{7}, 32)
		}
		d := &disk{folder: folder, key: key, least: int64(rapid.SampledFrom([]int{100, 2000, foldAfter}).Draw(t, "least"))}
		m := newModel()
		id := func() string { return rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "id") }
		for revision := uint64(1); revision <= 30; revision++ {
			a := delta(revision)
			if a.update.Full = revision == 1 || rapid.IntRange(0, 9).Draw(t, "full") == 0; a.update.Full {
				a.update.Plans = []gatehouse.Plan{{ID: "free", Name: fmt.Sprint(revision)}}
			}
			one := id()
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0, 1:
				a.update.Tenants = []gatehouse.Tenant{tenant(one, fmt.Sprint(revision))}
			case 2:
				a.update.Tenants = []gatehouse.Tenant{tenant(one, fmt.Sprint(revision)), tenant("z", "z")}
				a.refused = map[gatehouse.TenantID]bool{gatehouse.TenantID(one): true}
			case 3:
				a.update.Keys = []gatehouse.KeyChange{{Tenant: gatehouse.TenantID(one), Key: gatehouse.Key{ID: "k", Roles: []string{fmt.Sprint(revision)}}}}
			case 4:
				a.update.Keys = []gatehouse.KeyChange{{Tenant: gatehouse.TenantID(one), Key: gatehouse.Key{ID: "k"}, Removed: true}}
			case 5:
				if !a.update.Full {
					a.update.RemovedTenants, a.update.RemovedPlans = []gatehouse.TenantID{gatehouse.TenantID(one)}, []gatehouse.PlanID{"free"}
				}
			}
			if err := d.keep([]applied{a}); err != nil {
				t.Fatal(err)
			}
			m.take(&a)
			if rapid.IntRange(0, 4).Draw(t, "restart") == 0 {
				d.close()
				if _, notes, err := d.load(); err != nil || len(notes) > 0 {
					t.Fatal(notes, err)
				}
			}
		}
		d.close()
		got, notes, err := loaded(folder, key)
		if err != nil || len(notes) > 0 || got != m.String() {
			t.Fatalf("%v %v\ngot:\n%s\nwant:\n%s", notes, err, got, m)
		}
		all, err := d.generations()
		if err != nil || len(all) > 2 {
			t.Fatalf("%v are kept: %v", all, err)
		}
	})
}

// No damage of one byte, and no cut, makes a state that never was: what is read
// is one that was kept, or the file is of no use and the one before is taken.
func TestDamage(t *testing.T) {
	for _, key := range [][]byte{nil, bytes.Repeat([]byte{7}, 32)} {
		folder := t.TempDir()
		d := &disk{folder: folder, key: key, least: foldAfter}
		m := newModel()
		states := map[string]bool{}
		keep := func(a applied) {
			if err := d.keep([]applied{a}); err != nil {
				t.Fatal(err)
			}
			m.take(&a)
			states[m.clone().String()] = true
		}
		keep(full(1, tenant("a", "one")))
		before := m.String()
		keep(full(2, tenant("a", "two"), tenant("b", "two")))
		keep(delta(3, tenant("a", "three")))
		keep(delta(4, tenant("c", "four")))
		d.close()
		newest := d.name(2)
		sound, err := os.ReadFile(newest)
		if err != nil {
			t.Fatal(err)
		}
		fellBack := 0
		check := func(what string, damaged []byte) {
			if err := os.WriteFile(newest, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			got, notes, err := loaded(folder, key)
			if err != nil || !states[got] {
				t.Fatalf("%s: %v %v\n%s", what, notes, err, got)
			}
			if got == before {
				fellBack++
			}
			if got != m.String() && len(notes) == 0 && !strings.HasPrefix(what, "cut") {
				t.Errorf("%s: an older state is used and nothing is said", what)
			}
		}
		for i := range sound {
			damaged := bytes.Clone(sound)
			damaged[i] ^= 1 << (i % 8)
			check(fmt.Sprintf("bit of byte %d", i), damaged)
		}
		for i := range sound {
			check(fmt.Sprintf("cut to %d", i), sound[:i])
		}
		if fellBack == 0 {
			t.Error("the one before was never taken")
		}
	}
}

// A state is cut where it is damaged, and what is kept later is read again.
func TestAppendAfterDamage(t *testing.T) {
	folder := t.TempDir()
	d := &disk{folder: folder, least: foldAfter}
	for _, a := range []applied{full(1, tenant("a", "one")), delta(2, tenant("a", "two"))} {
		if err := d.keep([]applied{a}); err != nil {
			t.Fatal(err)
		}
	}
	d.close()
	sound, err := os.ReadFile(d.name(1))
	if err != nil {
		t.Fatal(err)
	}
	damaged := append(sound[:len(sound)-3], bytes.Repeat([]byte{1}, 10_000)...)
	if err := os.WriteFile(d.name(1), damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	// One that another process writes is left as it is.
	other := &disk{folder: folder, shared: true}
	if u, notes, err := other.load(); err != nil || len(notes) != 1 || u.Revision != 1 || other.file != nil {
		t.Fatal(u.Revision, notes, err)
	}
	if now, err := os.ReadFile(d.name(1)); err != nil || !bytes.Equal(now, damaged) {
		t.Fatal("a file of another process was changed", err)
	}
	u, notes, err := d.load()
	if err != nil || len(notes) != 1 || u.Revision != 1 {
		t.Fatal(u.Revision, notes, err)
	}
	if err := d.keep([]applied{delta(2, tenant("a", "again"))}); err != nil {
		t.Fatal(err)
	}
	d.close()
	got, notes, err := loaded(folder, nil)
	if err != nil || len(notes) > 0 || !strings.Contains(got, `"again"`) {
		t.Errorf("%v %v\n%s", notes, err, got)
	}
}

// A frame counts in its own place only: one that is moved, repeated or left out
// is found.
func TestOrder(t *testing.T) {
	folder := t.TempDir()
	d := &disk{folder: folder, least: foldAfter}
	if err := d.keep([]applied{full(1, tenant("a", "one"), tenant("b", "two"))}); err != nil {
		t.Fatal(err)
	}
	d.close()
	sound, err := os.ReadFile(d.name(1))
	if err != nil {
		t.Fatal(err)
	}
	var frames [][]byte // behind the head
	for rest := sound[headSize:]; len(rest) > 0; {
		n := frameHead + int(binary.BigEndian.Uint32(rest))
		frames, rest = append(frames, rest[:n]), rest[n:]
	}
	f := func(order ...int) {
		t.Helper()
		file := bytes.Clone(sound[:headSize])
		for _, i := range order {
			file = append(file, frames[i]...)
		}
		if err := os.WriteFile(d.name(1), file, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, _, err := loaded(folder, nil); err == nil {
			t.Errorf("%v: %s", order, got)
		}
	}
	if len(frames) != 4 { // a plan, two tenants, the commit
		t.Fatal(len(frames))
	}
	f(0, 2, 1, 3)
	f(0, 1, 1, 3)
	f(0, 1, 3)
	f(1, 2, 3)
}

// Changes are folded: what is kept grows with the state and not with time.
func TestCompaction(t *testing.T) {
	folder := t.TempDir()
	d := &disk{folder: folder, least: 2000}
	if err := d.keep([]applied{full(1, tenant("a", "one"))}); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(300) {
		if err := d.keep([]applied{delta(i+2, tenant("a", fmt.Sprint(i)))}); err != nil {
			t.Fatal(err)
		}
	}
	d.close()
	all, err := d.generations()
	if err != nil || len(all) != 2 || all[0] < 10 {
		t.Fatal(all, err)
	}
	for _, n := range all {
		if info, err := os.Stat(d.name(n)); err != nil || info.Size() > 4000 {
			t.Errorf("%d has %d bytes, %v", n, info.Size(), err)
		}
	}
	if got, _, err := loaded(folder, nil); err != nil || !strings.Contains(got, `"299"`) {
		t.Error(got, err)
	}
}

// Where no file is of use, the error says why of each.
func TestNothingOfUse(t *testing.T) {
	folder := t.TempDir()
	d := &disk{folder: folder, least: foldAfter}
	for _, a := range []applied{full(1, tenant("a", "one")), full(2, tenant("a", "two"))} {
		if err := d.keep([]applied{a}); err != nil {
			t.Fatal(err)
		}
	}
	d.close()
	for i, text := range []string{"", "GHS1c" + strings.Repeat("x", 32) + "\x00\x00\x00\x01z"} {
		if err := os.WriteFile(d.name(uint64(i+1)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, _, err := loaded(folder, nil)
	want := fmt.Sprintf("no snapshot can be used: %s: an entry is too short at byte 37\n%s: the file is too short at byte 0", d.name(2), d.name(1))
	if err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
	// A broken file is not one of the two that are kept.
	d = &disk{folder: folder, least: foldAfter}
	if _, _, err := d.load(); err == nil {
		t.Fatal("loaded")
	}
	if err := d.keep([]applied{full(5, tenant("a", "five"))}); err != nil {
		t.Fatal(err)
	}
	d.close()
	if all, err := d.generations(); err != nil || fmt.Sprint(all) != "[3]" {
		t.Errorf("%v %v", all, err)
	}
}

// Secrets are not on an encrypted disk, and the key and the form must fit.
func TestEncryption(t *testing.T) {
	key, other := bytes.Repeat([]byte{7}, 32), bytes.Repeat([]byte{8}, 32)
	folder := t.TempDir()
	d := &disk{folder: folder, key: key, least: foldAfter}
	if err := d.keep([]applied{full(1, tenant("a", "one")), delta(2, tenant("b", "two"))}); err != nil {
		t.Fatal(err)
	}
	d.close()
	raw, err := os.ReadFile(d.name(1))
	if err != nil || bytes.Contains(raw, []byte("a.test")) || bytes.Contains(raw, []byte("hush")) {
		t.Errorf("in clear: %v", err)
	}
	f := func(key []byte, want string) {
		t.Helper()
		_, _, err := loaded(folder, key)
		if got := fmt.Sprint(err); !strings.Contains(got, want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	f(key, "<nil>")
	f(other, "an entry was changed, or the key is another one at byte 37")
	f(nil, "the file is encrypted, and no key is configured")
	clear := t.TempDir()
	d = &disk{folder: clear, least: foldAfter}
	if err := d.keep([]applied{full(1)}); err != nil {
		t.Fatal(err)
	}
	d.close()
	folder = clear
	f(key, "the file is not encrypted, and a key is configured")
}

// A change with nothing to follow is refused, and a failed write leaves what
// was kept.
func TestDiskFails(t *testing.T) {
	folder := t.TempDir()
	d := &disk{folder: folder, least: foldAfter}
	if err := d.keep([]applied{delta(2)}); !errors.Is(err, errNoBase) {
		t.Error(err)
	}
	if err := d.keep([]applied{full(1, tenant("a", "one"))}); err != nil {
		t.Fatal(err)
	}
	if err := d.file.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.keep([]applied{delta(2, tenant("a", "two"))}); err == nil || d.file != nil {
		t.Errorf("a write to a closed file: %v", err)
	}
	got, notes, err := loaded(folder, nil)
	if err != nil || len(notes) > 0 || !strings.Contains(got, `"one"`) {
		t.Errorf("%v %v\n%s", notes, err, got)
	}
}

// A change costs what it is, whatever the number of tenants.
func BenchmarkKeep(b *testing.B) {
	for _, n := range []int{1, 10_000} {
		b.Run(fmt.Sprint(n, " tenants"), func(b *testing.B) {
			d := &disk{folder: b.TempDir(), least: 1 << 40}
			base := full(1)
			for i := range n {
				base.update.Tenants = append(base.update.Tenants, tenant(fmt.Sprintf("t%d", i), "x"))
			}
			if err := d.keep([]applied{base}); err != nil {
				b.Fatal(err)
			}
			defer d.close()
			one := []applied{delta(2, tenant("t0", "y"))}
			b.ReportAllocs()
			for b.Loop() {
				if err := d.keep(one); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// The start from disk, by tenant.
func BenchmarkLoad(b *testing.B) {
	const n = 10_000
	d := &disk{folder: b.TempDir(), least: foldAfter}
	base := full(1)
	for i := range n {
		base.update.Tenants = append(base.update.Tenants, tenant(fmt.Sprintf("t%d", i), "x"))
	}
	if err := d.keep([]applied{base}); err != nil {
		b.Fatal(err)
	}
	d.close()
	b.ReportAllocs()
	for b.Loop() {
		u, _, err := d.load()
		if err != nil || len(u.Tenants) != n {
			b.Fatal(err)
		}
		d.close()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/tenant")
}
