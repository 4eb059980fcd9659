package billing_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse/metering/billing"
)

var casesFile = flag.String("cases", "testdata/billing-cases.json", "file of worked cases")

// workedCase is one example from the documentation or the tests of another
// billing system.
type workedCase struct {
	ID            string                       `json:"id"`
	Origin        string                       `json:"origin"`
	Model         string                       `json:"model"`
	Currency      billing.Currency             `json:"currency"`
	Params        map[string]json.RawMessage   `json:"params"`
	Usage         map[string]json.RawMessage   `json:"usage"`
	ExpectedTotal json.RawMessage              `json:"expected_total"`
	ExpectedLines []map[string]json.RawMessage `json:"expected_lines"`
	// Gatehouse is what this product answers where it differs on purpose;
	// without it the note of a divergence says so.
	Gatehouse json.RawMessage `json:"expected_gatehouse"`
	Source    string          `json:"source"`
	Kind      string          `json:"kind"`
	Note      string          `json:"note"`
	Recompute bool            `json:"recomputed_ok"`
}

// outcome is what the product makes of a case: the amount before and after
// rounding, and its lines as named figures.
type outcome struct {
	exact, rounded billing.Decimal
	lines          []map[string]billing.Decimal
}

// TestWorkedCases runs a file of worked cases through the product: with -cases
// any file of the same form, relative to this folder or to the repository.
func TestWorkedCases(t *testing.T) {
	path := *casesFile
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) && !filepath.IsAbs(path) {
		path = filepath.Join("..", "..", path)
	}
	runCases(t, path)
}

// TestMoreCases runs further examples of the same sources, and our own for
// branches that they do not reach.
func TestMoreCases(t *testing.T) { runCases(t, "testdata/more-cases.json") }

func runCases(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Cases []json.RawMessage `json:"cases"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Cases) == 0 {
		t.Fatal("there are no cases")
	}
	for i, raw := range file.Cases {
		var c workedCase
		if err := json.Unmarshal(raw, &c); err != nil {
			t.Errorf("case %d: %v", i, err)
			continue
		}
		for name := range object("case", raw).vals {
			if strings.HasPrefix(name, "expected") && !slices.Contains([]string{"expected_total", "expected_lines", "expected_gatehouse"}, name) {
				t.Errorf("case %s: %q is not known", c.ID, name)
			}
		}
		t.Run(c.ID, func(t *testing.T) {
			if err := c.check(); err != nil {
				t.Errorf("%v\nsource: %s\nnote: %s", err, c.Source, c.Note)
			}
		})
	}
}

func (c *workedCase) check() (err error) {
	defer func() {
		if v := recover(); v != nil {
			f, ok := v.(refusal)
			if !ok {
				panic(v)
			}
			err = errors.New(string(f))
		}
	}()
	params, usage := newBag("params", c.Params), newBag("usage", c.Usage)
	params.under = usage
	got := c.evaluate(params, usage)
	params.drained()
	usage.drained()
	if len(c.ExpectedTotal) == 0 && len(c.ExpectedLines) > 0 {
		c.ExpectedTotal = json.RawMessage(got.rounded.String()) // the lines are all that is stated
	}
	want, ok := c.want()
	if !ok {
		if source := scalar("expected_total", c.ExpectedTotal); got.matches(c.Currency, source) {
			return fmt.Errorf("got the %s of the source, which Gatehouse does not copy", source)
		}
		return nil
	}
	if !got.matches(c.Currency, want) {
		return fmt.Errorf("got %s (exactly %s), want %s", got.rounded, got.exact, want)
	}
	for _, line := range c.ExpectedLines {
		if err := got.has(c.Currency, line); err != nil {
			return err
		}
	}
	return nil
}

var statedOwn = regexp.MustCompile(`(?i)(?:expected|own value|gatehouse(?:'s)?(?: own)?(?: value| bills| gives| answers)?):? (?:is )?(-?[0-9]+(?:\.[0-9]+)?)`)

// want returns the amount that the product is held to, and false where a case
// diverges and says nothing of our own value.
func (c *workedCase) want() (billing.Decimal, bool) {
	if c.Gatehouse != nil {
		return scalar("expected_gatehouse", c.Gatehouse), true
	}
	if c.Kind != "divergence" {
		return scalar("expected_total", c.ExpectedTotal), true
	}
	c.ExpectedLines = nil
	if m := statedOwn.FindStringSubmatch(c.Note); m != nil {
		return scalar("note", json.RawMessage(m[1])), true
	}
	return billing.Decimal{}, false
}

func (o outcome) matches(c billing.Currency, want billing.Decimal) bool {
	return equal(c, o.exact, o.rounded, want)
}

// equal compares with the rounded amount, or, where more digits are shown than
// the currency has, with the exact one to as many digits.
func equal(c billing.Currency, exact, rounded, want billing.Decimal) bool {
	minor, known := c.Places()
	n, ends := want.Places()
	switch {
	case !ends:
		return exact.Cmp(want) == 0
	case !known && n == 0:
		return exact.Cmp(want) == 0
	case !known || n > minor:
		return exact.Round(n, billing.HalfUp).Cmp(want) == 0
	}
	return rounded.Cmp(want) == 0
}

func (o outcome) has(c billing.Currency, want map[string]json.RawMessage) error {
next:
	for _, line := range o.lines {
		for name, raw := range want {
			figure, ok := line[name]
			if !ok || !equal(c, figure, figure, scalar(name, raw)) {
				continue next
			}
		}
		return nil
	}
	text, _ := json.Marshal(want)
	have, _ := json.Marshal(o.lines)
	return fmt.Errorf("no line is %s among %s", text, have)
}

// refusal is a case that cannot be read: it fails, it is not skipped.
type refusal string

func refuse(format string, args ...any) { panic(refusal(fmt.Sprintf(format, args...))) }

// bag is a JSON object whose every member must be used.
type bag struct {
	name  string
	vals  map[string]json.RawMessage
	used  map[string]bool
	under *bag // also looked into
}

func newBag(name string, vals map[string]json.RawMessage) *bag {
	return &bag{name: name, vals: vals, used: map[string]bool{}}
}

// object reads a nested object.
func object(name string, raw json.RawMessage) *bag {
	var vals map[string]json.RawMessage
	if err := json.Unmarshal(raw, &vals); err != nil {
		refuse("%s: %v", name, err)
	}
	return newBag(name, vals)
}

func (b *bag) drained() {
	for _, name := range slices.Sorted(maps.Keys(b.vals)) {
		if !b.used[name] {
			refuse("%s: %q is not known here", b.name, name)
		}
	}
}

// raw returns the first of the names that is there and not null.
func (b *bag) raw(names ...string) json.RawMessage {
	for _, n := range names {
		if raw, ok := b.vals[n]; ok {
			b.used[n] = true
			if string(raw) != "null" {
				return raw
			}
		}
	}
	if b.under != nil {
		return b.under.raw(names...)
	}
	return nil
}

func (b *bag) has(names ...string) bool { return b.raw(names...) != nil }

func scalar(name string, raw json.RawMessage) billing.Decimal {
	text := strings.Trim(string(raw), `"`)
	text = strings.TrimSuffix(strings.ReplaceAll(text, "_", ""), "%")
	d, err := billing.ParseDecimal(strings.TrimPrefix(strings.TrimSpace(text), "+"))
	if err != nil {
		refuse("%s: %s: %v", name, raw, err)
	}
	return d
}

func (b *bag) dec(names ...string) billing.Decimal {
	if raw := b.raw(names...); raw != nil {
		return scalar(names[0], raw)
	}
	return billing.Decimal{}
}

func (b *bag) opt(names ...string) *billing.Decimal {
	if raw := b.raw(names...); raw != nil {
		d := scalar(names[0], raw)
		return &d
	}
	return nil
}

func (b *bag) need(names ...string) billing.Decimal {
	d := b.opt(names...)
	if d == nil {
		refuse("%s: %s is missing", b.name, names[0])
	}
	return *d
}

// percent reads a percentage, or a fraction by its other names.
func (b *bag) percent(names []string, fractions ...string) billing.Decimal {
	if d := b.opt(fractions...); d != nil {
		return d.Mul(billing.Int(100))
	}
	return b.dec(names...)
}

func (b *bag) text(names ...string) string {
	raw := b.raw(names...)
	if raw == nil {
		return ""
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		refuse("%s: %v", names[0], err)
	}
	return s
}

func (b *bag) flag(byDefault bool, names ...string) bool {
	raw := b.raw(names...)
	if raw == nil {
		return byDefault
	}
	switch strings.Trim(string(raw), `"`) {
	case "true":
		return true
	case "false":
		return false
	}
	refuse("%s: %s is neither true nor false", names[0], raw)
	return false
}

func (b *bag) integer(names ...string) int {
	d := b.dec(names...)
	var n int
	if _, err := fmt.Sscan(d.String(), &n); err != nil || !billing.Int(int64(n)).Sub(d).IsZero() {
		refuse("%s: %s is not a whole number", names[0], d)
	}
	return n
}

func (b *bag) list(names ...string) []json.RawMessage {
	raw := b.raw(names...)
	if raw == nil {
		return nil
	}
	var out []json.RawMessage
	if err := json.Unmarshal(raw, &out); err != nil {
		return []json.RawMessage{raw}
	}
	return out
}

func (b *bag) decs(names ...string) []billing.Decimal {
	var out []billing.Decimal
	for _, raw := range b.list(names...) {
		out = append(out, scalar(names[0], raw))
	}
	return out
}

// word maps what other systems call a thing to our name for it.
func word[T any](b *bag, known map[string]T, names ...string) T {
	s := strings.ToLower(b.text(names...))
	v, ok := known[s]
	if !ok && s != "" {
		refuse("%s: %q is not known", names[0], s)
	}
	return v
}

// TestUnknownCases holds that what a case says and nobody reads is a failure.
func TestUnknownCases(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		var c workedCase
		if err := json.Unmarshal([]byte(text), &c); err != nil {
			t.Fatal(err)
		}
		if err := c.check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
	f(`{"model":"raffle","kind":"stated"}`, `model "raffle" is not known`)
	f(`{"model":"per_unit","currency":"USD","kind":"stated","params":{"unit_price":"1","lucky":true},"usage":{"quantity":"1"},"expected_total":"1"}`, `"lucky" is not known`)
	f(`{"model":"per_unit","currency":"USD","kind":"stated","params":{"unit_price":"1"},"usage":{"quantity":"1","moon":"full"},"expected_total":"1"}`, `"moon" is not known`)
	f(`{"model":"per_unit","currency":"USD","kind":"stated","params":{"unit_price":"1"},"usage":{"quantity":"1"},"expected_total":"2"}`, `want 2`)
	f(`{"model":"per_unit","currency":"USD","kind":"stated","params":{"unit_price":"1"},"usage":{"quantity":"1"},"expected_total":"1","expected_lines":[{"usage":"2"}]}`, `no line is`)
	f(`{"model":"per_unit","currency":"USD","kind":"divergence","params":{"unit_price":"1"},"usage":{"quantity":"1"},"expected_total":"1"}`, `does not copy`)
	f(`{"model":"package","currency":"USD","kind":"stated","params":{"package_size":"ten","package_price":"1"},"usage":{"quantity":"1"},"expected_total":"1"}`, `package_size`)
}
