package control

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
)

// plane is a data plane that refuses the tenants named in it.
type plane map[gatehouse.TenantID]bool

func (p plane) apply(u gatehouse.Update) gatehouse.Outcome {
	out := gatehouse.Outcome{Revision: u.Revision, Removed: u.RemovedTenants}
	for _, t := range u.Tenants {
		if p[t.ID] {
			out.Refused = append(out.Refused, gatehouse.Refusal{Tenant: t.ID, Faults: gatehouse.Faults{{Pointer: "/name", Reason: "refused"}}})
		} else {
			out.Applied = append(out.Applied, t.ID)
		}
	}
	return out
}

func TestPublish(t *testing.T) {
	p := plane{}
	b := NewBook(p.apply)
	doc := func(tenants ...string) gatehouse.Document {
		var d gatehouse.Document
		for _, s := range tenants {
			id, name, _ := strings.Cut(s, "=")
			d.Tenants = append(d.Tenants, gatehouse.Tenant{ID: gatehouse.TenantID(id), Name: name})
		}
		return d
	}
	var story []string
	step := func(d gatehouse.Document) {
		r, news := b.Publish(Change{Parts: []*gatehouse.Document{&d}})
		line := "nothing"
		if news {
			line = fmt.Sprint(r.Revision, " ", r.Result, " changed ", r.Changed, " removed ", r.Removed, " refused ", len(r.Refused))
		}
		var in []string
		for _, t := range b.Tenants() {
			in = append(in, string(t.ID)+"="+t.Name)
		}
		story = append(story, line+": "+strings.Join(in, " "))
	}
	step(doc("a=1", "b=1"))
	step(doc("a=1", "b=1"))
	step(doc("a=2", "b=1"))
	p["b"] = true
	step(doc("a=3", "b=2", "c=1"))
	step(doc("a=3", "b=2", "c=1")) // still refused: tried and told again
	delete(p, "b")
	step(doc("a=3", "b=2"))
	want := `1 applied changed [a b] removed [] refused 0: a=1 b=1
nothing: a=1 b=1
2 applied changed [a] removed [] refused 0: a=2 b=1
3 partial changed [a c] removed [] refused 1: a=3 b=1 c=1
4 refused changed [] removed [] refused 1: a=3 b=1 c=1
5 applied changed [b] removed [c] refused 0: a=3 b=2`
	if got := strings.Join(story, "\n"); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if rs := b.Revisions(); len(rs) != 5 || rs[0].Revision != 5 {
		t.Errorf("%d revisions", len(rs))
	}
}

// Problems are news when they begin, change and end, and not between.
func TestProblemsAreToldOnce(t *testing.T) {
	dir := t.TempDir()
	b := NewBook(plane{}.apply)
	f := NewFiles(dir, b, slog.New(slog.DiscardHandler))
	var story []string
	for _, text := range []string{"tenants: [{id: a}]", "tenants: [{id: a, plan: x}]", "tenants: [{id: a, plan: x}]", "tenants: [{id: a, plan: y}]", "tenants: [{id: a}]", "tenants: [{id: a}]"} {
		if err := os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f.Load()
		r := b.Revisions()[0]
		story = append(story, fmt.Sprint(r.Revision, " ", r.Result))
	}
	if got, want := strings.Join(story, ", "), "1 applied, 2 refused, 2 refused, 3 refused, 4 applied, 4 applied"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for name, want := range map[string]bool{"a.yaml": true, "new.json": true, "o.err": false, ".a.yaml.swp": false, "sub/a.yaml": false} {
		if got := f.concerns(filepath.Join(dir, name), false); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if !f.concerns(dir, false) || !f.concerns(filepath.Dir(dir), false) || f.concerns(filepath.Join(filepath.Dir(dir), "o.err"), true) {
		t.Error("the folders on the way count, and what lies beside them does not")
	}
}

// A file is read again when it, or a key file it names, has changed, and not
// otherwise; a fault in one keeps what it last held.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	b := NewBook(plane{}.apply)
	f := NewFiles(dir, b, slog.New(slog.DiscardHandler))
	put := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	state := func() string {
		f.Load()
		var s []string
		for _, t := range b.Tenants() {
			keys := ""
			for _, i := range t.Identity.JWT {
				keys += "+" + i.JWKS
			}
			s = append(s, string(t.ID)+"@"+t.Domain+keys)
		}
		return strings.Join(s, " ")
	}
	check := func(step, want string) {
		t.Helper()
		if got := state(); got != want {
			t.Errorf("%s: got %q, want %q", step, got, want)
		}
	}
	const issuer = `{jwt: [{issuer: i, audience: [x], algorithms: [RS256], jwks_file: k.jwks}]}`
	put("a.yaml", "tenants: [{id: a, domain: a.test, identity: "+issuer+"}]")
	put("b.yaml", "tenants: [{id: b, domain: b.test}]")
	check("key file missing", "a@a.test+ b@b.test")
	put("k.jwks", "KEYS")
	check("key file there", "a@a.test+KEYS b@b.test")
	put("b.yaml", "tenants: [{id: b, domain: a.test}]")
	check("host taken", "a@a.test+KEYS b@b.test")
	put("a.yaml", "tenants: [{id: a, domain: c.test}]")
	check("host given free", "a@c.test b@a.test")
	put("c.yaml", "tenants: [{id: c, plan: none}]")
	put("a.yaml", "tenants: [{id: a, domain: d.test}]")
	check("new file faulty", "a@d.test b@a.test")
	put("c.yaml", "plans: [{id: none}]\ntenants: [{id: c, plan: none}]")
	check("new file mended", "a@d.test b@a.test c@")
	rename := func(from, to string) {
		t.Helper()
		if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	put("z.yaml", "tenants: [{id: z, domain: d.test}]")
	rename("a.yaml", "y.yaml")
	check("renamed while another claims its host", "a@d.test b@a.test c@")
	if err := os.Remove(filepath.Join(dir, "z.yaml")); err != nil {
		t.Fatal(err)
	}
	check("the other is gone", "a@d.test b@a.test c@")
	put("y.yaml", "tenants: [{id: a, domain: d.test, bad: [}]")
	rename("y.yaml", "x.yaml")
	check("broken and renamed", "a@d.test b@a.test c@")
	put("x.yaml", "tenants: [{id: a, domain: e.test}]")
	check("mended", "a@e.test b@a.test c@")
	put("x.yaml", "tenants: []")
	check("tenant taken out", "b@a.test c@")
	put("x.yaml", "tenants: [{id: a, domain: d.test}]")
	check("tenant put back", "a@d.test b@a.test c@")
	put("c.yaml", "tenants: [{id: c}]")
	put("b.yaml", "tenants: [{id: b, plan: none}]")
	check("plan gone while another file begins to need it", "a@d.test b@a.test c@")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	check("folder gone", "a@d.test b@a.test c@")
}
