package identity

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// claims is a JSON object read so that no two readers can differ on it: a
// member given twice, text that is not UTF-8 and numbers beyond float64 are
// errors. RFC 7519 section 4 allows refusing duplicates; taking the last, as
// encoding/json does, would let a token mean two things.
//
// Whole numbers of 64 bits stay json.Number, so that ids keep every digit;
// other numbers are float64.
type claims map[string]any

var (
	errDuplicate = errors.New("member given twice")
	errDepth     = errors.New("nested too deeply")
	errNodes     = fmt.Errorf("more than %d values", maxNodes)
)

const (
	// maxDepth bounds how deep arrays and objects lie in each other.
	maxDepth = 32
	// maxNodes bounds the values in all. Read, an empty array of two bytes
	// takes hundreds. Tokens with three hundred groups have some 320.
	maxNodes = 4096
)

// claimsReader reads one object.
type claimsReader struct {
	*json.Decoder
	nodes int // values so far
}

func readObject(text []byte) (claims, error) {
	if !utf8.Valid(text) {
		return nil, errors.New("not UTF-8")
	}
	d := claimsReader{Decoder: json.NewDecoder(bytes.NewReader(text))}
	d.UseNumber()
	v, err := d.value(0)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("text after the object")
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("not a JSON object")
	}
	return m, nil
}

func (d *claimsReader) value(depth int) (any, error) {
	if d.nodes++; d.nodes > maxNodes {
		return nil, errNodes
	}
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch token := token.(type) {
	case json.Number:
		return readNumber(token)
	case json.Delim:
		if depth == maxDepth {
			return nil, errDepth
		}
		if token == '{' {
			return d.members(depth + 1)
		}
		list := []any{}
		for d.More() {
			v, err := d.value(depth + 1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := d.Token()
		return list, err
	default:
		return token, nil
	}
}

func (d *claimsReader) members(depth int) (any, error) {
	m := map[string]any{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, ok := token.(string)
		if !ok {
			return nil, errors.New("a member name is expected")
		}
		if _, dup := m[name]; dup {
			return nil, fmt.Errorf("%q: %w", name, errDuplicate)
		}
		if m[name], err = d.value(depth); err != nil {
			return nil, err
		}
	}
	_, err := d.Token()
	return m, err
}

func readNumber(n json.Number) (any, error) {
	if _, err := strconv.ParseInt(string(n), 10, 64); err == nil {
		return n, nil
	}
	f, err := n.Float64()
	if err != nil || math.IsInf(f, 0) {
		return nil, errors.New("number out of range")
	}
	return f, nil
}

// maxDate is the end of year 9999, the last that RFC 3339 can write.
const maxDate = 253402300799

// date reads a NumericDate (RFC 7519 section 2): a number of seconds after
// 1970, never text, never negative. ok is false when the claim is absent.
func (c claims) date(name string) (at time.Time, ok bool, err error) {
	v, ok := c[name]
	if !ok {
		return time.Time{}, false, nil
	}
	switch n := v.(type) {
	case json.Number:
		if s, err := n.Int64(); err == nil && s >= 0 && s <= maxDate {
			return time.Unix(s, 0), true, nil
		}
	case float64:
		if n >= 0 && n <= maxDate {
			whole, frac := math.Modf(n)
			return time.Unix(int64(whole), int64(frac*1e9)), true, nil
		}
	}
	return time.Time{}, false, fmt.Errorf("%s is not a date", name)
}

// text returns a claim that is a string, "" otherwise.
func (c claims) text(name string) string {
	s, _ := c[name].(string)
	return s
}

// words reads a claim that is a list of strings, or one string of words
// separated by spaces. A claim of another shape gives none: less right, never
// more.
func (c claims) words(name string) []string {
	switch v := c[name].(type) {
	case string:
		return strings.Fields(v)
	case []any:
		words := make([]string, 0, len(v))
		for _, e := range v {
			s, ok := e.(string)
			if !ok {
				return nil
			}
			words = append(words, s)
		}
		return words
	}
	return nil
}
