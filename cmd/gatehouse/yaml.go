package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"strings"
	"unicode"
)

// writeYAML writes a JSON value as YAML, its keys in the order that they have.
func writeYAML(w io.Writer, raw json.RawMessage) error {
	y := yamlWriter{d: json.NewDecoder(bytes.NewReader(raw))}
	y.d.UseNumber()
	if err := y.value(0, false); err != nil {
		return err
	}
	_, err := w.Write(y.b.Bytes())
	return err
}

type yamlWriter struct {
	b bytes.Buffer
	d *json.Decoder
}

// value writes the next value. inline says that something stands before it on
// the line, a key or a dash.
func (y *yamlWriter) value(indent int, inline bool) error {
	token, err := y.d.Token()
	if err != nil {
		return err
	}
	switch t := token.(type) {
	case json.Delim:
		if !y.d.More() {
			y.separate(inline)
			y.b.WriteString(map[json.Delim]string{'{': "{}\n", '[': "[]\n"}[t])
			_, err := y.d.Token()
			return err
		}
		if t == '[' {
			return y.list(indent, inline)
		}
		return y.object(indent, inline)
	case string:
		y.separate(inline)
		y.text(t, indent)
	case json.Number:
		y.separate(inline)
		y.b.WriteString(t.String() + "\n")
	case bool:
		y.separate(inline)
		y.b.WriteString(map[bool]string{true: "true\n", false: "false\n"}[t])
	case nil:
		y.separate(inline)
		y.b.WriteString("null\n")
	default:
		return errors.New("not JSON")
	}
	return nil
}

func (y *yamlWriter) separate(inline bool) {
	if inline {
		y.b.WriteByte(' ')
	}
}

// object writes the keys of an object; behind a dash the first stands on its
// line.
func (y *yamlWriter) object(indent int, inline bool) error {
	dash := inline && bytes.HasSuffix(y.b.Bytes(), []byte("-"))
	if inline && !dash {
		y.b.WriteByte('\n')
	}
	for first := true; y.d.More(); first = false {
		key, err := y.d.Token()
		if err != nil {
			return err
		}
		if first && dash {
			y.b.WriteByte(' ')
		} else {
			y.b.WriteString(strings.Repeat(" ", indent))
		}
		name, _ := key.(string)
		y.b.WriteString(scalar(name) + ":")
		if err := y.value(indent+2, true); err != nil {
			return err
		}
	}
	_, err := y.d.Token()
	return err
}

func (y *yamlWriter) list(indent int, inline bool) error {
	if inline {
		y.b.WriteByte('\n')
	}
	for y.d.More() {
		y.b.WriteString(strings.Repeat(" ", indent) + "-")
		if err := y.value(indent+2, true); err != nil {
			return err
		}
	}
	_, err := y.d.Token()
	return err
}

// text writes a string; one of several lines as a block, where YAML keeps it
// as it is.
func (y *yamlWriter) text(s string, indent int) {
	body := strings.TrimRight(s, "\n")
	if !strings.Contains(body, "\n") || !blockSafe(body) || len(s)-len(body) > 1 || indent == 0 {
		y.b.WriteString(scalar(s) + "\n")
		return
	}
	y.b.WriteByte('|')
	if s == body {
		y.b.WriteByte('-')
	}
	y.b.WriteByte('\n')
	for line := range strings.SplitSeq(body, "\n") {
		if line != "" {
			y.b.WriteString(strings.Repeat(" ", indent) + line)
		}
		y.b.WriteByte('\n')
	}
}

func blockSafe(s string) bool {
	if s == "" || s[0] == ' ' || s[0] == '\n' || s[0] == '\t' {
		return false
	}
	for line := range strings.SplitSeq(s, "\n") {
		if line != strings.TrimRight(line, " \t") {
			return false
		}
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return r != '\n' && r != '\t' && !unicode.IsPrint(r) })
}

// plain matches strings that every reader of YAML takes for strings.
var plain = regexp.MustCompile(`^[A-Za-z_/][A-Za-z0-9_./-]*$`)

// scalar is a string on one line.
func scalar(s string) string {
	switch strings.ToLower(s) {
	case "true", "false", "null", "yes", "no", "on", "off", "y", "n", ".nan", ".inf":
	default:
		if plain.MatchString(s) {
			return s
		}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b) // a JSON string is one of YAML
	e.SetEscapeHTML(false)
	if e.Encode(s) != nil {
		return `""`
	}
	return strings.TrimSuffix(b.String(), "\n")
}
