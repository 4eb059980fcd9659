package ingress

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/proxy/ingress/corpus"
)

// picture of the verdicts on what a client sends, as corpus writes them.
func verdicts(raw []byte) (wants []string, closes bool) {
	for served := 0; len(raw) > 0; served++ {
		raw = bytes.TrimPrefix(raw, []byte("\r\n")) // the one empty line
		if len(raw) == 0 {
			break
		}
		var r Request
		end, err := HeadEnd(raw, 0)
		switch {
		case err == nil && (end > corpus.HeaderBytes || end == 0 && len(raw) >= corpus.HeaderBytes):
			return append(wants, "431"), true
		case err == nil && end == 0:
			return append(wants, "408"), true
		case err == nil:
			err = r.ParseHead(raw[:end])
		}
		if err != nil {
			return append(wants, fmt.Sprint(gatehouse.Problems[gatehouse.CodeOf(err)].Status)), true
		}
		raw = raw[end:]
		var status string
		switch {
		case r.BodyLength > corpus.BodyBytes:
			status = "413"
		case r.BodyLength < 0:
			raw, status = naiveChunked(raw)
		case r.BodyLength > int64(len(raw)):
			status = "408/body"
		default:
			raw = raw[r.BodyLength:]
		}
		if status != "" {
			return append(wants, status), true
		}
		wants = append(wants, fmt.Sprintf("200 %s %s %d", r.Authority, r.Path, r.BodyLength))
		if r.Close {
			return wants, true
		}
	}
	return wants, false
}

func wanted(c *corpus.Case) string {
	var s []string
	for _, w := range c.Wants {
		switch {
		case w.Known:
			s = append(s, fmt.Sprintf("%d %s %s %d", w.Status, w.Authority, w.Path, w.Length))
		case w.Body:
			s = append(s, fmt.Sprintf("%d/body", w.Status))
		default:
			s = append(s, fmt.Sprint(w.Status))
		}
	}
	return strings.Join(s, ", ") + closing(c.Close)
}

func closing(closes bool) string {
	if closes {
		return ", close"
	}
	return ""
}

func TestCorpus(t *testing.T) {
	cases, err := corpus.Load("testdata")
	if err != nil {
		t.Fatal(err)
	}
	if len(cases) < 180 {
		t.Errorf("only %d cases", len(cases))
	}
	for _, c := range cases {
		wants, closes := verdicts(c.Raw)
		if got, want := strings.Join(wants, ", ")+closing(closes), wanted(&c); got != want {
			t.Errorf("%s (%s)\ngot  %s\nwant %s", c.Name, c.Source, got, want)
		}
		if c.Source == "" {
			t.Errorf("%s has no source", c.Name)
		}
	}
}

func TestPublicSuites(t *testing.T) {
	cases, err := corpus.LoadPublic("testdata/public")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		wants, closes := verdicts(c.Raw)
		for i, w := range wants {
			wants[i], _, _ = strings.Cut(w, " ")
		}
		if got, want := strings.Join(wants, ", ")+closing(closes), wanted(&c); got != want {
			t.Errorf("%s\n%q\ngot  %s\nwant %s", c.Name, c.Raw[:min(len(c.Raw), 400)], got, want)
		}
	}
}

// naiveChunked skips a chunked body (RFC 9112, 7.1). The status is that of the
// fault, empty for none.
func naiveChunked(raw []byte) (rest []byte, status string) {
	const maxLine, maxTrailer = 256, 8 << 10
	const malformed, short = "400/body", "408/body"
	line := func(limit int) ([]byte, string) {
		end := bytes.IndexByte(raw, '\n')
		switch {
		case end > limit, end < 0 && len(raw) > limit:
			return nil, malformed
		case end < 0:
			return nil, short
		case end == 0 || bytes.IndexByte(raw[:end], '\r') != end-1:
			return nil, malformed
		}
		l := raw[:end-1]
		raw = raw[end+1:]
		return l, ""
	}
	for {
		l, fault := line(maxLine)
		if fault != "" {
			return nil, fault
		}
		digits, n := 0, 0
		for digits < len(l) && Unhex(l[digits]) >= 0 {
			n = n<<4 | Unhex(l[digits])
			digits++
		}
		if digits == 0 || digits > 15 || !extensions(l[digits:]) {
			return nil, malformed
		}
		if n == 0 {
			break
		}
		if n > len(raw) {
			return nil, short
		}
		raw = raw[n:]
		if !bytes.HasPrefix(raw, []byte("\r\n")[:min(2, len(raw))]) {
			return nil, malformed
		}
		if len(raw) < 2 {
			return nil, short
		}
		raw = raw[2:]
	}
	var lines []byte
	for {
		l, fault := line(maxTrailer)
		if fault != "" {
			return nil, fault
		}
		lines = append(append(lines, l...), "\r\n"...)
		if len(l) == 0 {
			break
		}
	}
	if _, err := ParseFieldLines(nil, lines); err != nil {
		return nil, malformed
	}
	return raw, ""
}

// extensions reads chunk-ext, but no white space in front of it.
func extensions(b []byte) bool {
	for len(b) > 0 {
		if b[0] != ';' {
			return false
		}
		b = bytes.TrimLeft(b[1:], " \t")
		name := 0
		for name < len(b) && isToken(b[name:name+1]) {
			name++
		}
		if name == 0 {
			return false
		}
		b = b[name:]
		after := bytes.TrimLeft(b, " \t")
		if len(after) > 0 && after[0] == '=' {
			var ok bool
			if _, b, ok = cutValue(bytes.TrimLeft(after[1:], " \t")); !ok {
				return false
			}
		} else if len(after) > 0 && after[0] == ';' {
			b = after
		}
		if after := bytes.TrimLeft(b, " \t"); len(after) > 0 && after[0] == ';' {
			b = after
		}
	}
	return true
}
