// Package corpus reads the raw requests that the strict parser and the server
// are held to, with the verdict on each. It is for tests.
//
// A file of the corpus is a list of cases:
//
//	== name of the case
//	source: where the verdict comes from
//	> POST / HTTP/1.1
//	> Host: a.test
//	> Content-Length: 4
//	>
//	> ab\x00c\
//	want: 200 a.test / 4
//	close: yes
//
// A line behind ">" ends in CR LF, unless a backslash ends it. The escapes are
// those of Go, and \{x*1000} is a thousand times x. There is one "want" for
// each answer: a status and, for a request that is accepted, its canonical
// authority and path and the length of its body, -1 for chunked. A status with
// "/body" is found out only in the body; 408 means that the server waits for
// more. The connection must close behind any status but 200, and where the
// case says so.
package corpus

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// The limits that verdicts of 431 and 413 assume: the gateway's defaults.
const (
	HeaderBytes = 16 << 10
	BodyBytes   = 10 << 20
)

// Case is what a client sends on one connection, and what must come of it.
type Case struct {
	// Name is that of the file and of the case in it.
	Name string
	// Source is an RFC with section, a CVE or a CWE; "design" where nothing
	// but our own design asks for it.
	Source string
	Raw    []byte
	// Wants are the answers in order.
	Wants []Want
	// Close says that the connection must be closed after the last answer.
	Close bool
}

// Want is the verdict on one request.
type Want struct {
	// Status is 200 for a request that is accepted, whatever a backend then
	// answers; 408 for one that is not complete.
	Status int
	// Body says that the head is accepted, and the body is at fault.
	Body bool
	// Authority and Path are canonical, and Length is that of the body, -1 for
	// chunked. Known tells whether the case has them.
	Authority, Path string
	Length          int64
	Known           bool
}

// Load reads the cases of all files in dir, "proxy/ingress/testdata".
func Load(dir string) ([]Case, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("no corpus in %s", dir)
	}
	var cases []Case
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		group := strings.TrimSuffix(filepath.Base(name), ".txt")
		if cases, err = parse(cases, group, string(text)); err != nil {
			return nil, fmt.Errorf("corpus %s: %w", name, err)
		}
	}
	seen := map[string]bool{}
	for i := range cases {
		c := &cases[i]
		if seen[c.Name] || len(c.Raw) == 0 || len(c.Wants) == 0 {
			return nil, fmt.Errorf("case %s: a double name, or nothing to send or expect", c.Name)
		}
		seen[c.Name] = true
	}
	return cases, nil
}

func parse(cases []Case, group, text string) ([]Case, error) {
	var c *Case
	for i, line := range strings.Split(text, "\n") {
		key, value, _ := strings.Cut(line, " ")
		var err error
		switch {
		case line == "" || key == "#":
		case key == "==":
			cases = append(cases, Case{Name: group + "/" + value})
			c = &cases[len(cases)-1]
		case c == nil:
			err = errors.New("outside of a case")
		case key == "source:":
			c.Source = value
		case key == ">":
			c.Raw, err = appendLine(c.Raw, value)
		case key == "want:":
			err = c.want(value)
		case key == "close:":
			c.Close = value == "yes"
		default:
			err = errors.New("not understood")
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	return cases, nil
}

func (c *Case) want(text string) error {
	parts := strings.Fields(text)
	if len(parts) == 0 {
		return errors.New("no status")
	}
	status, in, _ := strings.Cut(parts[0], "/")
	n, err := strconv.Atoi(status)
	if err != nil || in != "" && in != "body" {
		return fmt.Errorf("status %q", parts[0])
	}
	w := Want{Status: n, Body: in == "body"}
	switch len(parts) {
	case 1:
	case 4:
		w.Authority, w.Path, w.Known = parts[1], parts[2], true
		if w.Length, err = strconv.ParseInt(parts[3], 10, 64); err != nil {
			return err
		}
	default:
		return errors.New("a status, or a status with authority, path and length")
	}
	c.Wants = append(c.Wants, w)
	c.Close = c.Close || n != 200
	return nil
}

// appendLine decodes a line of raw bytes.
func appendLine(dst []byte, line string) ([]byte, error) {
	for line != "" {
		if line == `\` {
			return dst, nil
		}
		if rest, ok := strings.CutPrefix(line, `\{`); ok {
			repeat, rest, ok := strings.Cut(rest, "}")
			text, times, ok2 := strings.Cut(repeat, "*")
			n, err := strconv.Atoi(times)
			if !ok || !ok2 || err != nil || n > 1<<20 {
				return dst, fmt.Errorf("malformed repetition %q", repeat)
			}
			dst = append(dst, strings.Repeat(text, n)...)
			line = rest
			continue
		}
		r, multibyte, rest, err := strconv.UnquoteChar(line, 0)
		if err != nil {
			return dst, fmt.Errorf("escape in %q: %w", line, err)
		}
		if multibyte {
			dst = append(dst, string(r)...)
		} else {
			dst = append(dst, byte(r))
		}
		line = rest
	}
	return append(dst, '\r', '\n'), nil
}
