package billing

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// Status is where an invoice is in its life.
type Status string

// The states: draft, then finalized, then paid, void or uncollectible. An
// uncollectible one may still be paid or become void; paid and void are final.
const (
	Drafted       Status = "draft"
	Finalized     Status = "finalized"
	Paid          Status = "paid"
	Void          Status = "void"
	Uncollectible Status = "uncollectible"
)

// Kind says what an invoice covers.
type Kind string

// The kinds of invoices.
const (
	// Opening charges the advance fees of the first period.
	Opening Kind = "opening"
	// Closing charges a period that has ended, and the advance fees of the next.
	Closing Kind = "closing"
	// Progressive charges usage of a period that goes on.
	Progressive Kind = "progressive"
	// Correction charges usage that came late, and nothing else: when no
	// period follows that would charge it.
	Correction Kind = "correction"
)

// The document types of UNTDID 1001.
const (
	TypeInvoice    = 380
	TypeCreditNote = 381
	TypePrepayment = 386
	TypeMetered    = 82
	TypeCorrected  = 384
)

// Watermark says how complete the usage was.
type Watermark struct {
	// SealedUntil is when the last minute ends that all gateways had sealed.
	SealedUntil time.Time `json:"sealed_until,omitzero"`
	// Missing are the gateways that had not reported when the grace period
	// ended.
	Missing []string `json:"missing,omitempty"`
}

// Mark is a change of status.
type Mark struct {
	Status Status `json:"status"`
	// At is when.
	At time.Time `json:"at"`
	// Ref is the payment, or the reason.
	Ref string `json:"ref,omitempty"`
}

// Invoice is one bill of one subscription. From Finalize on everything but
// Status and Marks is frozen and covered by Hash.
type Invoice struct {
	// Key is the same for every run over one period: there is one invoice of a
	// key that is not void.
	Key string `json:"key"`
	// Number is given by Finalize; drafts have none. Type is that of UNTDID 1001:
	// 380. Subscription is its id.
	Number       string             `json:"number,omitempty"`
	Type         int                `json:"type"`
	Kind         Kind               `json:"kind"`
	Status       Status             `json:"status,omitempty"`
	Tenant       gatehouse.TenantID `json:"tenant"`
	Subscription string             `json:"subscription"`
	Currency     Currency           `json:"currency"`
	// TimeZone is that of the subscription: its dates are meant in it. Default
	// UTC.
	TimeZone string `json:"time_zone,omitempty"`
	Period   Period `json:"period"`
	Sheet
	Watermark Watermark `json:"watermark,omitzero"`
	// Issued and PayBy are set by Finalize.
	Issued time.Time `json:"issued,omitzero"`
	PayBy  time.Time `json:"pay_by,omitzero"`
	// Previous is the hash of the invoice numbered before; Hash is the SHA-256
	// of the canonical JSON of everything but itself, Status and Marks.
	Previous string `json:"previous,omitempty"`
	Hash     string `json:"hash,omitempty"`
	Marks    []Mark `json:"marks,omitempty"`
}

// Number formats the n-th document of a series in a year: GH-2026-000123.
func Number(series string, year, n int) string { return fmt.Sprintf("%s-%04d-%06d", series, year, n) }

// Canonical returns the JSON of v with sorted keys, no spaces, and no HTML
// escapes, so that equal values have equal bytes.
func Canonical(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("canonical form: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var tree any
	if err := dec.Decode(&tree); err != nil {
		return nil, fmt.Errorf("canonical form: %w", err)
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(tree); err != nil {
		return nil, fmt.Errorf("canonical form: %w", err)
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

func digestOf(v any) (string, error) {
	text, err := Canonical(v)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

func (inv Invoice) digest() (string, error) {
	inv.Status, inv.Marks, inv.Hash = "", nil, ""
	return digestOf(inv)
}

// Finalize freezes a draft under a number and chains it to the hash of the
// invoice numbered before, empty for the first. CodeInvalid: it is no draft,
// or the number is empty.
func (inv Invoice) Finalize(number, previous string, at time.Time, due time.Duration) (Invoice, error) {
	if inv.Status != Drafted {
		return inv, refuse("invoice %s is %s: only a draft can be finalized", inv.name(), inv.Status)
	}
	if number == "" {
		return inv, refuse("a number is needed to finalize %s", inv.name())
	}
	inv.Number, inv.Previous, inv.Issued, inv.PayBy = number, previous, at.UTC(), at.UTC().Add(due)
	hash, err := inv.digest()
	if err != nil {
		return inv, err
	}
	inv.Hash = hash
	return inv.mark(Finalized, at, ""), nil
}

func (inv Invoice) name() string {
	if inv.Number != "" {
		return inv.Number
	}
	return inv.Key
}

func (inv Invoice) mark(to Status, at time.Time, ref string) Invoice {
	inv.Status = to
	inv.Marks = append(inv.Marks[:len(inv.Marks):len(inv.Marks)], Mark{to, at.UTC(), ref})
	return inv
}

// Move marks a finalized invoice as paid, void or uncollectible. To mark it so
// again is not an error and changes nothing. CodeInvalid: the state does not
// allow it, or it is paid by another ref. A void invoice keeps its number.
func (inv Invoice) Move(to Status, at time.Time, ref string) (Invoice, error) {
	known := to == Paid || to == Void || to == Uncollectible
	if inv.Status == to && known {
		if paid := inv.paidBy(); to == Paid && ref != paid {
			return inv, refuse("invoice %s is paid by %q already, not by %q", inv.name(), paid, ref)
		}
		return inv, nil
	}
	open := inv.Status == Finalized || inv.Status == Uncollectible
	if !open || !known {
		return inv, refuse("invoice %s is %s: it cannot become %s", inv.name(), inv.Status, to)
	}
	return inv.mark(to, at, ref), nil
}

// paidBy is the ref of the payment.
func (inv Invoice) paidBy() string {
	for _, m := range inv.Marks {
		if m.Status == Paid {
			return m.Ref
		}
	}
	return ""
}

// voided is when the invoice became void.
func (inv *Invoice) voided() time.Time {
	for _, m := range inv.Marks {
		if m.Status == Void {
			return m.At
		}
	}
	return time.Time{}
}

// place is the series, the year and the place in it that a number names.
func place(number string) (series string, year, n int, ok bool) {
	head, last, ok := cutLast(number)
	if !ok {
		return "", 0, 0, false
	}
	series, middle, ok := cutLast(head)
	if !ok {
		return "", 0, 0, false
	}
	year, errYear := strconv.Atoi(middle)
	n, errN := strconv.Atoi(last)
	return series, year, n, errYear == nil && errN == nil
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, '-')
	if i < 0 {
		return "", "", false
	}
	return s[:i], s[i+1:], true
}

// follows reports whether a number comes next after another: the next of its
// year, or the first of a later one. Numbers of another form than Number's are
// not compared.
func follows(before, after string) bool {
	seriesA, yearA, a, okA := place(before)
	seriesB, yearB, b, okB := place(after)
	if !okA || !okB {
		return true
	}
	next := yearB == yearA && b == a+1 || yearB > yearA && b == 1
	return seriesA == seriesB && next
}

// Verify checks that each invoice of a series, in order of numbers, has the
// hash of its content, names the hash of the one before, and has the number
// that follows. A series that begins in its middle is checked from there on.
// It returns an error that names the first that does not hold.
func Verify(series []Invoice) error {
	previous := ""
	for i, inv := range series {
		hash, err := inv.digest()
		if err != nil {
			return err
		}
		if hash != inv.Hash {
			return refuse("invoice %s has been altered: its content has the hash %s", inv.name(), hash)
		}
		if inv.Number == "" {
			return refuse("invoice %s has no number", inv.name())
		}
		if i > 0 && inv.Previous != previous {
			return refuse("invoice %s does not follow the one before it", inv.name())
		}
		if i > 0 && !follows(series[i-1].Number, inv.Number) {
			return refuse("numbers are missing between invoice %s and invoice %s", series[i-1].Number, inv.Number)
		}
		if _, _, n, ok := place(inv.Number); i == 0 && ok && n > 1 && inv.Previous == "" {
			return refuse("invoice %s names none before it and is not the first", inv.name())
		}
		previous = inv.Hash
	}
	return nil
}
