package gatehouse_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
	"pgregory.net/rapid"
)

func TestPointer(t *testing.T) {
	f := func(want string, tokens ...any) {
		t.Helper()
		if got := gatehouse.Pointer(tokens...); got != want {
			t.Errorf("%v: got %s, want %s", tokens, got, want)
		}
	}
	f("")
	f("/", "")
	f("/tenants/3/backends/0/id", "tenants", 3, "backends", 0, "id")
	f("/a~1b/m~0n/~01", "a/b", "m~n", "~1") // RFC 6901, section 3
	// Tokens come back out of a pointer, whatever is in them.
	rapid.Check(t, func(t *rapid.T) {
		tokens := rapid.SliceOfN(rapid.String(), 1, 5).Draw(t, "tokens")
		var list []any
		for _, s := range tokens {
			list = append(list, s)
		}
		got := strings.Split(gatehouse.Pointer(list...), "/")[1:]
		for i := range got {
			got[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(got[i])
		}
		if !slices.Equal(got, tokens) {
			t.Fatalf("%q come back as %q", tokens, got)
		}
	})
	defer func() {
		if recover() == nil {
			t.Error("a token of another type is taken")
		}
	}()
	gatehouse.Pointer(1.5)
}

func TestFaults(t *testing.T) {
	faults := gatehouse.Faults{
		{Pointer: "/id", Reason: "is missing", Hint: "write one"},
		{Pointer: "/domain", Reason: "is taken", Also: "/aliases/0", Warning: true},
	}
	if got, want := faults.Error(), "/id: is missing (write one)\n/domain: is taken"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	under := faults.Under("/tenants/1")
	if got := fmt.Sprint(under[0].Pointer, under[0].Also, " ", under[1].Pointer, " ", under[1].Also); got != "/tenants/1/id /tenants/1/domain /tenants/1/aliases/0" {
		t.Errorf("under: %s", got)
	}
	if faults[0].Pointer != "/id" {
		t.Error("Under changes its receiver")
	}
	if errs := faults.Errors(); len(errs) != 1 || errs[0].Pointer != "/id" || len(faults[1:].Errors()) != 0 {
		t.Errorf("errors: %v", errs)
	}
}

func TestCodeOf(t *testing.T) {
	f := func(err error, want gatehouse.Code) {
		t.Helper()
		if got := gatehouse.CodeOf(err); got != want {
			t.Errorf("%v: got %q, want %q", err, got, want)
		}
	}
	denied := &gatehouse.Error{Code: gatehouse.CodeDenied, Message: "no", Err: io.EOF}
	f(nil, "")
	f(denied, gatehouse.CodeDenied)
	f(fmt.Errorf("decide: %w", denied), gatehouse.CodeDenied)
	f(errors.Join(io.EOF, denied), gatehouse.CodeDenied)
	f(io.EOF, gatehouse.CodeInternal)
	if !errors.Is(denied, io.EOF) || denied.Error() != "GH-DC-001 no: EOF" {
		t.Errorf("%v hides its cause", denied)
	}
	if got := (&gatehouse.Error{Code: gatehouse.CodeDenied, Message: "no"}).Error(); got != "GH-DC-001 no" {
		t.Errorf("without a cause: %q", got)
	}
}

func TestNearest(t *testing.T) {
	keys := []string{"id", "name", "status", "domain", "aliases", "plan", "time_zone", "routes"}
	f := func(s, want string) {
		t.Helper()
		if got := gatehouse.Nearest(s, keys); got != want {
			t.Errorf("%q: got %q, want %q", s, got, want)
		}
	}
	f("domain", "domain")
	f("domian", "domain") // a swap is one slip
	f("domains", "domain")
	f("omain", "domain")
	f("nme", "name")
	f("timezone", "time_zone")
	f("Plan", "plan")
	f("route", "routes")
	f("plane", "plan")
	f("xyz", "")
	f("limits", "")
	f("dmn", "")
	if got := gatehouse.Nearest("a", nil); got != "" {
		t.Errorf("of none: %q", got)
	}
	// One slip in a word of three letters or more finds the word.
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringMatching("[a-z]{3,12}").Draw(t, "word")
		i := rapid.IntRange(0, len(word)-1).Draw(t, "at")
		j := min(i+1, len(word)-1)
		slip := rapid.SampledFrom([]string{
			word[:i] + word[i+1:],
			word[:i] + "_" + word[i:],
			word[:i] + "_" + word[i+1:],
			word[:i] + word[j:j+1] + word[i:i+1] + word[min(i+2, len(word)):],
		}).Draw(t, "slip")
		if i == len(word)-1 {
			slip = word + "_"
		}
		if got := gatehouse.Nearest(slip, []string{word}); got != word {
			t.Fatalf("%q does not find %q", slip, word)
		}
	})
}

// A tenant on its own is not blamed for what other documents hold.
func TestTenantAlone(t *testing.T) {
	tenant := gatehouse.Tenant{ID: "studio", Plan: "of-another-file", Domain: "Studio.test"}
	faults := tenant.Validate()
	if len(faults) != 1 || faults[0].Pointer != "/domain" {
		t.Errorf("alone: %v", faults)
	}
	doc := gatehouse.Document{Tenants: []gatehouse.Tenant{tenant}}
	if faults := doc.Validate(); len(faults) != 2 || faults[0].Pointer != "/tenants/0/plan" || faults[1].Pointer != "/tenants/0/domain" {
		t.Errorf("in a document: %v", faults)
	}
}

// Hosts and AllRules hand out slices that may be appended to.
func TestSlicesAreApart(t *testing.T) {
	tenant := gatehouse.Tenant{Domain: "a.test", Aliases: []string{"b.test", "c.test"}}
	if got := strings.Join(tenant.Hosts(), " "); got != "a.test b.test c.test" {
		t.Errorf("hosts: %s", got)
	}
	tenant.Domain = ""
	if got := strings.Join(tenant.Hosts(), " "); got != "b.test c.test" {
		t.Errorf("hosts without a domain: %s", got)
	}
	rules := make([]gatehouse.LimitRule, 1, 4)
	rules[0].Name = "own"
	limits := gatehouse.Limits{Rules: rules, MaxAPICallsPerHour: 7}
	all := limits.AllRules()
	if len(all) != 2 || all[1].Name != gatehouse.HourlyRule || all[1].Quota != 7 || all[1].Window.Unit != "hour" {
		t.Errorf("rules: %+v", all)
	}
	if rules[:2][1].Name != "" {
		t.Error("AllRules writes into the document")
	}
}
