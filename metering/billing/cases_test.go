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
	ID, Model, Kind, Source, Note string
	Currency                      billing.Currency
	Params, Usage                 map[string]json.RawMessage
	// Total and Lines are what the source states; Own is what this product
	// answers where it differs on purpose.
	Total, Own json.RawMessage
	Lines      []map[string]json.RawMessage
	// Figures are other totals that the case states, by name.
	Figures map[string]json.RawMessage
}

// figure is one line of what came out: its numbers by name, and of what it is.
type figure struct {
	id   string
	nums map[string]billing.Decimal
}

func nums(pairs ...any) figure {
	f := figure{nums: map[string]billing.Decimal{}}
	for i := 0; i < len(pairs); i += 2 {
		f.nums[pairs[i].(string)] = pairs[i+1].(billing.Decimal)
	}
	return f
}

// outcome is what the product makes of a case: the amount before and after
// rounding, and its lines in one or more views: as they stand on the invoice,
// and itemised. The lines that a case states are all of one view.
type outcome struct {
	exact, rounded billing.Decimal
	views          [][]figure
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

// TestReviewCases runs cases at the edges of tiers, rounding, minimums and
// currencies, computed independently.
func TestReviewCases(t *testing.T) { runCases(t, "testdata/review-cases.json") }

// TestSpellings runs cases that say the same in the words of other systems.
func TestSpellings(t *testing.T) { runCases(t, "testdata/spellings.json") }

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
		read := caught(func() error { return c.read(raw) })
		if c.ID == "" {
			c.ID = fmt.Sprint("case-", i)
		}
		t.Run(c.ID, func(t *testing.T) {
			if read != nil {
				t.Fatal(read)
			}
			if err := c.check(); err != nil {
				t.Errorf("%v\nsource: %s\nnote: %s", err, c.Source, c.Note)
			}
		})
	}
}

// ignored are members of a case that do not bear on its result.
var ignored = []string{
	"origin", "recomputed_ok", "title", "name", "description", "url", "comment", "comments", "tags", "section", "collected", "version",
	"license", "reference", "ref", "group", "verified", "line", "file", "commit", "about",
}

// read takes a case apart. A member beside those of the form is a parameter
// if it is spelled as one: it must be used then. Others are a failure.
func (c *workedCase) read(raw json.RawMessage) error {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil {
		return err
	}
	var currency string
	c.Figures = map[string]json.RawMessage{}
	fields := map[string]any{
		"id": &c.ID, "model": &c.Model, "kind": &c.Kind, "source": &c.Source, "note": &c.Note, "currency": &currency, "params": &c.Params, "usage": &c.Usage,
		"expected_total": &c.Total, "expected": &c.Total, "expected_amount": &c.Total, "expected_lines": &c.Lines,
		"expected_gatehouse": &c.Own, "gatehouse_expected": &c.Own, "expected_own": &c.Own, "own_total": &c.Own, "gatehouse_total": &c.Own,
	}
	extra := map[string]json.RawMessage{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		to, ok := fields[name]
		value := all[name]
		switch {
		case string(value) == "null" || slices.Contains(ignored, name):
		case name == "expected" && all["expected_total"] != nil:
			c.Figures["total"] = value
		case ok:
			if err := json.Unmarshal(value, to); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		case strings.HasPrefix(name, "expected_"):
			c.Figures[strings.TrimPrefix(name, "expected_")] = value
		default:
			extra[name] = value
		}
	}
	c.Currency, c.Model = billing.Currency(strings.ToUpper(currency)), snake(c.Model)
	if _, known := c.Currency.Places(); !known {
		c.Currency = billing.Currency(currency)
	}
	if c.Params == nil {
		c.Params = map[string]json.RawMessage{}
	}
	for name, value := range extra {
		if _, taken := c.Params[name]; taken || !spelled(name) {
			return fmt.Errorf("%q is not known", name)
		}
		c.Params[name] = value
	}
	return nil
}

func spelled(name string) bool {
	if _, ok := spellings[name]; ok {
		return true
	}
	for _, others := range spellings {
		if slices.Contains(others, name) {
			return true
		}
	}
	return false
}

func (c *workedCase) check() error {
	return caught(func() error {
		params, usage := newBag("params", c.Params), newBag("usage", c.Usage)
		got := c.evaluate(params, usage)
		params.idle("time_zone") // no calendar was asked for
		params.drained()
		usage.drained()
		return c.compare(got)
	})
}

func (c *workedCase) compare(got outcome) error {
	want, ok := c.want(got)
	if !ok {
		if source := scalar("expected_total", c.Total); got.matches(c.Currency, source) {
			return fmt.Errorf("got the %s of the source, which Gatehouse does not copy", source)
		}
		return nil
	}
	if !got.matches(c.Currency, want) {
		return fmt.Errorf("got %s (exactly %s), want %s", got.rounded, got.exact, want)
	}
	lines := c.Lines
	for _, name := range slices.Sorted(maps.Keys(c.Figures)) {
		if name == "total" {
			if !got.matches(c.Currency, scalar(name, c.Figures[name])) {
				return fmt.Errorf("got %s, want %s", got.rounded, c.Figures[name])
			}
			continue
		}
		lines = append(lines, map[string]json.RawMessage{name: c.Figures[name]})
	}
	return got.has(c.Currency, lines)
}

// want returns the amount that the product is held to, and false where a case
// diverges and says nothing of our own value.
func (c *workedCase) want(got outcome) (billing.Decimal, bool) {
	if c.Own != nil {
		return scalar("expected_gatehouse", c.Own), true
	}
	if len(c.Total) == 0 {
		if len(c.Lines) == 0 {
			refuse("nothing is expected")
		}
		return got.rounded, true // the lines are all that is stated
	}
	total := scalar("expected_total", c.Total)
	if kind := snake(c.Kind); !strings.HasPrefix(kind, "diverg") && !strings.HasPrefix(kind, "differ") && !strings.HasPrefix(kind, "trap") {
		return total, true
	}
	c.Lines = nil
	return stated(c.Note, total)
}

var (
	aNumber = regexp.MustCompile(`-?[0-9][0-9_]*(?:,[0-9]{3})*(?:\.[0-9]+)?(?:/[0-9]+)?`)
	ofOurs  = regexp.MustCompile(`(?i)gatehouse|expected|own value|\bours?\b|\bwe\b`)
	negated = regexp.MustCompile(`(?i)(?:\bnot|\bthan|\bof|\binstead of|[A-Za-z0-9_(]\()\s*[$€£]?$`)
	noNoun  = regexp.MustCompile(`(?i)^\s*(?:$|[^A-Za-z\s]|(?:and|or|not|rather|instead|over|in|for|but|while|because|as|is|with|after|usd|eur|gbp|jpy|dollars?|euros?|cents?|per|by|by|the|where|since|so|if|when|against|vs|which|to|at|on|from)\b)`)
)

// stated finds our own value in the note of a divergence: the last number
// after the last words about us that is no count of something, is not negated,
// and is not what the source answers.
func stated(note string, source billing.Decimal) (billing.Decimal, bool) {
	from := 0
	if all := ofOurs.FindAllStringIndex(note, -1); all != nil {
		from = all[len(all)-1][0]
		if found, ok := lastNumber(note[from:], source); ok {
			return found, true
		}
		from = all[0][0]
	}
	return lastNumber(note[from:], source)
}

func lastNumber(text string, source billing.Decimal) (billing.Decimal, bool) {
	var found billing.Decimal
	ok := false
	for _, at := range aNumber.FindAllStringIndex(text, -1) {
		before, after := text[:at[0]], text[at[1]:]
		glued := before != "" && regexp.MustCompile(`[A-Za-z0-9.]$`).MatchString(before)
		if glued || negated.MatchString(before) || !noNoun.MatchString(after) {
			continue
		}
		if d := scalar("note", json.RawMessage(text[at[0]:at[1]])); d.Cmp(source) != 0 {
			found, ok = d, true
		}
	}
	return found, ok
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

// lineNames are what cases call the numbers of a line.
var lineNames = map[string][]string{
	"true_up": {"minimum", "min_spend", "minimum_true_up", "min_true_up", "minimum_spend", "shortfall", "commitment_true_up"},
	"usage":   {"usage_amount", "usage_charge", "charge"}, "amount": {"subtotal", "line_amount", "value", "total_amount"}, "net": {"net_amount", "amount_excluding_tax", "amount"},
	"tax": {"tax_amount", "vat"}, "total": {"gross", "amount_including_tax", "due"}, "units": {"quantity", "packages", "blocks"}, "part": {"amount", "share"},
	"discount": {"discount_amount", "coupon"}, "max_spend": {"maximum", "maximum_spend", "max_spend_discount", "cap"}, "burned": {"burn", "used", "amount", "consumed"},
	"balance": {"left", "remaining"}, "credit": {"proration_credit", "refund"}, "fixed": {"fixed_fee", "fees", "fixed_fees"}, "percentage": {"percentage_amount", "rate_amount"},
	"flat_fee": {"flat_amount", "flat"}, "unit_price": {"unit_amount", "price"}, "subtotal": {"subtotal_excluding_tax", "sub_total", "net"}, "due": {"amount_due", "total"},
	"total_including_tax": {"subtotal_including_tax", "total"}, "overage": {"overage_amount", "overage_charge"}, "commitment": {"committed", "commitment_amount"},
}

// signless are numbers whose sign is in their name: a credit of 5 is -5.
var signless = map[string]bool{"credit": true, "discount": true, "max_spend": true}

// number finds a number of a line by our name for it or another.
func (f figure) number(name string) (billing.Decimal, string, bool) {
	if d, ok := f.nums[name]; ok {
		return d, name, true
	}
	for ours, others := range lineNames {
		if d, ok := f.nums[ours]; ok && slices.Contains(others, name) {
			return d, ours, true
		}
	}
	return billing.Decimal{}, "", false
}

func (f figure) is(c billing.Currency, want map[string]json.RawMessage) bool {
	numbers := 0
	for name, raw := range want {
		name = snake(name)
		var text string
		if (name == "grant" || name == "id") && json.Unmarshal(raw, &text) == nil {
			if text != f.id {
				return false
			}
			continue
		}
		if prose[name] && name != "tier" {
			continue
		}
		numbers++
		have, ours, ok := f.number(name)
		w := scalar(name, raw)
		if ok && signless[ours] && have.Sign() == -w.Sign() {
			w = w.Neg()
		}
		if !ok || !equal(c, have, have, w) {
			return false
		}
	}
	return numbers > 0
}

// has reports whether the lines are all in one view, each another line of it.
func (o outcome) has(c billing.Currency, want []map[string]json.RawMessage) error {
	missing := ""
	for _, view := range append([][]figure{}, o.views...) {
		left := slices.Clone(view)
		lacks := slices.IndexFunc(want, func(w map[string]json.RawMessage) bool {
			i := slices.IndexFunc(left, func(f figure) bool { return f.is(c, w) })
			if i >= 0 {
				left = slices.Delete(left, i, i+1)
			}
			return i < 0
		})
		if lacks < 0 {
			return nil
		}
		text, errWant := json.Marshal(want[lacks])
		var nums []map[string]billing.Decimal
		for _, f := range view {
			nums = append(nums, f.nums)
		}
		have, errHave := json.Marshal(nums)
		missing += fmt.Sprintf("no line is %s among %s %v\n", text, have, errors.Join(errWant, errHave))
	}
	if len(want) == 0 {
		return nil
	}
	return fmt.Errorf("%d views: %s", len(o.views), missing)
}

// TestUnknownCases holds that what a case says and nobody reads, or what it
// says wrongly, is a failure of that case.
func TestUnknownCases(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		var c workedCase
		err := caught(func() error { return c.read(json.RawMessage(text)) })
		if err == nil {
			err = c.check()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
	f(`{"model":"raffle","kind":"stated","expected_total":"1"}`, `model "raffle" is not known`)
	f(`{"model":"per_unit","currency":"USD","kind":"stated","params":{"unit_price":"1","lucky":true},"usage":{"quantity":"1"},"expected_total":"1"}`, `"lucky" is not known`)
	f(`{"model":"per_unit","currency":"USD","kind":"stated","params":{"unit_price":"1"},"usage":{"quantity":"1","moon":"full"},"expected_total":"1"}`, `"moon" is not known`)
	f(`{"model":"per_unit","currency":"USD","kind":"stated","params":{"unit_price":"1"},"usage":{"quantity":"1"},"expected_total":"2"}`, `want 2`)
	f(`{"model":"per_unit","currency":"USD","kind":"stated","params":{"unit_price":"1"},"usage":{"quantity":"1"},"expected_total":"1","expected_lines":[{"usage":"2"}]}`, `no line is`)
	f(`{"model":"per_unit","currency":"USD","kind":"divergence","params":{"unit_price":"1"},"usage":{"quantity":"1"},"expected_total":"1"}`, `does not copy`)
	f(`{"model":"package","currency":"USD","kind":"stated","params":{"package_size":"ten","package_price":"1"},"usage":{"quantity":"1"},"expected_total":"1"}`, `size`)
	f(`{"model":"package","currency":"USD","kind":"stated","params":{"package_size":"0","package_price":"1"},"usage":{"quantity":"1"},"expected_total":"0"}`, `panic`)
	f(`{"model":"per_unit","currency":"USD","kind":"typo","params":{"unit_price":"1"},"usage":{"quantity":"1"},"expected_total":"2"}`, `want 2`)
	f(`{"model":"per_unit","currency":"USD","kind":"stated","params":{"unit_price":"1"},"usage":{"quantity":"1"},"expected_total":"1","moon":"full"}`, `"moon" is not known`)
	f(`{"model":"per_unit","currency":"USD","kind":"stated","params":{"unit_price":"1"},"usage":{"quantity":"1"},"expected_total":"1","coupon_typo":"1"}`, `"coupon_typo" is not known`)
	f(`{"model":"per_unit","currency":"USD","kind":"stated","params":{},"usage":{"amount":"5"},"expected_total":"25"}`, `unit_price is missing`)
	f(`{"model":"per_unit","currency":"USD","kind":"stated","params":{"unit_price":"5"},"usage":{},"expected_total":"0"}`, `quantity is missing`)
	f(`{"model":"split","currency":"USD","params":{"amount":"10","weights":["1","1","1"]},"usage":{},"expected_total":"10","expected_lines":[{"part":"3.34"},{"part":"3.34"},{"part":"3.34"}],"kind":"stated"}`, `no line is`)
	f(`{"model":"per_unit","currency":"USD","params":{"unit_price":"10","maximum_amount":"100","previously_billed":"70"},"usage":{"previous_quantity":"7","quantity":"5"},"expected_total":"30","expected_lines":[{"amount":"120"}],"kind":"stated"}`, `no line is`)
	f(`{"model":"ltv","currency":"USD","params":{"starting_customers":"10"},"usage":{},"expected_total":"0","kind":"stated"}`, `no divisor`)
	f(`{"model":"graduated","currency":"USD","params":{"tiers":[{"from":"0","up_to":"5","unit_price":"5"},{"from":"8","up_to":null,"unit_price":"1"}]},"usage":{"quantity":"6"},"expected_total":"26","kind":"stated"}`, `begins at 8`)
	f(`{"model":"per_unit","currency":"USD","params":{"unit_price":"10","price":"20"},"usage":{"quantity":"5"},"expected_total":"50","kind":"stated"}`, `"price" is not known`)
}

// TestStatedValue holds what is read from the note of a divergence.
func TestStatedValue(t *testing.T) {
	f := func(note, want string) {
		t.Helper()
		got, ok := stated(note, dec("20"))
		if text := got.String(); ok && text != want || !ok && want != "" {
			t.Errorf("%s: got %s %t, want %s", note, text, ok, want)
		}
	}
	f("Gatehouse bills 2 packages: expected 10.", "10")
	f("Source rounds down; ceil gives expected 2 packages -> expected 10.", "10")
	f("Gatehouse should give $10, not 20. Expected: cumulative (10).", "10")
	f("Gatehouse should give 10, not 30", "10")
	f("Gatehouse: 10.00.", "10")
	f("bills 20 (40 over the period); ceil(2.7)-ceil(1.4)=1 -> 10 (30 over the period). Gatehouse should use the cumulative rule: expected 10.", "10")
	f("rounding the net gives 5.48; Gatehouse rounds each line: expected 5.49.", "5.49")
	f("Gatehouse bills 5.49; the source 20", "5.49")
	f("we give fifty", "")
}
