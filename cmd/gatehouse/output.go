package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"
)

// The forms that data is printed in.
var formats = []string{"table", "json", "yaml", "csv", "name"}

// view is how a kind of resource looks in a table.
type view struct {
	name    string // pointer of what -o name prints
	columns []column
}

// column is a title and the JSON pointer of its value.
type column struct{ title, at string }

// columns reads "TITLE:/pointer …"; -o name prints the first.
func columns(text string) view {
	var v view
	for _, f := range strings.Fields(text) {
		title, at, _ := strings.Cut(f, ":")
		v.columns = append(v.columns, column{title, at})
	}
	v.name = v.columns[0].at
	return v
}

// secret is what an item shows in a column of that name.
func (v view) secret(item json.RawMessage) string {
	const pointer = "/secret"
	if !slices.ContainsFunc(v.columns, func(c column) bool { return c.at == pointer }) {
		return ""
	}
	return text(at(item, pointer))
}

// format settles the form of the output.
func (r *remote) format() (string, error) {
	f := first(r.out, r.s.getenv("GATEHOUSE_OUTPUT"), "table")
	if !slices.Contains(formats, f) {
		return "", &exit{exitUsage, fmt.Errorf("output %q is unknown: use table, json, yaml, csv or name%s", f, didYouMean(f, formats))}
	}
	return f, nil
}

// print prints one resource.
func (r *remote) print(raw json.RawMessage, v view) error {
	return r.write(raw, []json.RawMessage{raw}, v)
}

// printItems prints a list. As JSON and YAML it is the answer's form.
func (r *remote) printItems(items []json.RawMessage, v view) error {
	raw, err := json.Marshal(map[string]any{"items": items})
	if err != nil {
		return err
	}
	return r.write(raw, items, v)
}

func (r *remote) write(whole json.RawMessage, items []json.RawMessage, v view) error {
	f, err := r.format()
	if err != nil {
		return err
	}
	var b bytes.Buffer
	switch f {
	case "json":
		if err := json.Indent(&b, whole, "", "  "); err != nil {
			return err
		}
		b.WriteByte('\n')
	case "yaml":
		if err := writeYAML(&b, whole); err != nil {
			return err
		}
	case "csv":
		err = writeCSV(&b, items, v)
	case "name":
		for _, item := range items {
			if name := text(at(item, v.name)); name != "" { // a draft has no number
				b.WriteString(name + "\n")
			}
			if secret := v.secret(item); secret != "" { // shown this once: it must not be lost
				fmt.Fprintln(r.s.errors, "secret:", secret)
			}
		}
	default:
		err = writeTable(&b, items, v)
	}
	if err != nil {
		return err
	}
	_, err = r.s.out.Write(b.Bytes())
	return err
}

func writeTable(w io.Writer, items []json.RawMessage, v view) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := make([]string, len(v.columns))
	for i, c := range v.columns {
		line[i] = c.title
	}
	fmt.Fprintln(t, strings.Join(line, "\t"))
	for _, item := range items {
		for i, c := range v.columns {
			if line[i] = printable(text(at(item, c.at))); line[i] == "" {
				line[i] = "-"
			}
		}
		fmt.Fprintln(t, strings.Join(line, "\t"))
	}
	return t.Flush()
}

func writeCSV(w io.Writer, items []json.RawMessage, v view) error {
	t := csv.NewWriter(w)
	line := make([]string, len(v.columns))
	for i, c := range v.columns {
		line[i] = strings.ToLower(c.title)
	}
	if err := t.Write(line); err != nil {
		return err
	}
	for _, item := range items {
		for i, c := range v.columns {
			line[i] = text(at(item, c.at))
		}
		if err := t.Write(line); err != nil {
			return err
		}
	}
	t.Flush()
	return t.Error()
}

// at returns the value at a pointer, nil where there is none. /* stands for
// all elements, # behind a pointer for their number.
func at(raw json.RawMessage, pointer string) any {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return nil
	}
	pointer, number := strings.CutSuffix(pointer, "#")
	for _, part := range strings.Split(pointer, "/")[1:] {
		v = within(v, strings.NewReplacer("~1", "/", "~0", "~").Replace(part))
	}
	if !number {
		return v
	}
	switch v := v.(type) {
	case []any:
		return json.Number(strconv.Itoa(len(v)))
	case map[string]any:
		return json.Number(strconv.Itoa(len(v)))
	}
	return json.Number("0")
}

func within(v any, part string) any {
	switch v := v.(type) {
	case map[string]any:
		return v[part]
	case []any:
		if part == "*" {
			return v
		}
		all := make([]any, 0, len(v)) // of each element
		for _, e := range v {
			if x := within(e, part); x != nil {
				all = append(all, x)
			}
		}
		return all
	}
	return nil
}

// text is a value as a cell.
func text(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case []any:
		parts := make([]string, len(v))
		for i := range v {
			parts[i] = text(v[i])
		}
		return strings.Join(parts, ",")
	}
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(b)
}

// printable takes away what a terminal would act on.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return ' '
		}
		return r
	}, s)
}
