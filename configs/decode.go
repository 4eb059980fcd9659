package configs

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strconv"
	"strings"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Decode reads one YAML or JSON document into v, a pointer to a struct with
// json tags, and returns every fault: unknown and repeated keys, values of
// the wrong form. Fields of v whose keys are absent keep their values.
//
// The Text gives faults that are found later their places.
func Decode(name string, source []byte, v any) (*Text, Problems) {
	t, faults := decode(name, source, v, decoder{})
	return t, t.Locate(faults)
}

// DecodeBody is Decode for what has no lines that its author would know, such
// as the body of a request: faults come with their pointers only.
func DecodeBody(source []byte, v any) gatehouse.Faults {
	text, faults := decode("", source, v, decoder{})
	for i := range faults {
		if cut, own := text.keys[faults[i].Pointer]; own {
			faults[i].Pointer = cut
		}
	}
	return faults
}

// Text is one file's lines and the position of each value in it.
type Text struct {
	name  string
	lines []string
	at    map[string]position // by pointer
	keys  map[string]string   // pointers that stand for a key itself, told apart by place, to plain ones
	blank bool                // no value at all
}

// position is where a value stands; block is the line before a literal
// block's first, zero for other values, and indent how far each line of the
// block is moved in.
type position struct{ line, column, block, indent int }

// decoder walks a YAML tree and a Go value together.
type decoder struct {
	// strictInts refuses an explicit 0, which would silently mean "default".
	strictInts bool
	text       *Text
	faults     gatehouse.Faults
	anchors    map[string]ast.Node
	// nodes bounds the work that aliases can multiply.
	nodes int
}

// lineEnds makes all three line ends of YAML one.
var lineEnds = strings.NewReplacer("\r\n", "\n", "\r", "\n")

const maxNodes = 20_000_000

func decode(name string, source []byte, v any, d decoder) (*Text, gatehouse.Faults) {
	d.text = &Text{name: name, lines: strings.Split(lineEnds.Replace(string(source)), "\n"), at: map[string]position{}, keys: map[string]string{}}
	d.anchors = map[string]ast.Node{}
	tokens := lexer.Tokenize(string(bytes.TrimPrefix(source, []byte("\ufeff"))))
	if deep := tooDeep(tokens); deep != nil {
		d.text.at[""] = position{line: deep.Position.Line, column: deep.Position.Column}
		d.fault("", fmt.Sprintf("values nest deeper than %d", maxDepth), "")
		return d.text, d.faults
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if syntax, ok := errors.AsType[*yaml.SyntaxError](err); ok {
		d.text.at[""] = position{line: syntax.Token.Position.Line, column: syntax.Token.Position.Column}
		d.fault("", strings.ReplaceAll(syntax.Message, "'\t'", "tab"), syntaxHint(syntax.Message))
		return d.text, d.faults
	} else if err != nil {
		d.fault("", "malformed YAML: "+strings.SplitN(err.Error(), "\n", 2)[0], "")
		return d.text, d.faults
	}
	var bodies []ast.Node
	for _, doc := range file.Docs {
		if doc.Body != nil && doc.Body.Type() != ast.CommentType {
			bodies = append(bodies, doc.Body)
		}
	}
	switch len(bodies) {
	case 0:
		d.text.blank = true
	case 1:
		d.value(bodies[0], reflect.ValueOf(v).Elem(), "")
	default:
		d.note("", bodies[1])
		d.fault("", "the file has more than one YAML document", "split it into files")
	}
	return d.text, d.faults
}

func (d *decoder) fault(at, reason, hint string) {
	d.faults = append(d.faults, gatehouse.Fault{Pointer: at, Reason: reason, Hint: hint})
}

func (d *decoder) note(at string, n ast.Node) {
	if _, seen := d.text.at[at]; seen {
		return
	}
	tok := n.GetToken()
	switch n := n.(type) {
	case *ast.LiteralNode:
		p := position{line: n.Start.Position.Line, column: n.Start.Position.Column}
		if strings.HasPrefix(n.Start.Value, "|") { // a folded block has no lines of its own
			p.block, p.indent = p.line, d.text.indent(p.line, n.Value.Value)
		}
		d.text.at[at] = p
		return
	case *ast.MappingNode:
		if len(n.Values) > 0 && !n.IsFlowStyle {
			tok = n.Values[0].Key.GetToken()
		}
	case *ast.MappingValueNode:
		tok = n.Key.GetToken()
	}
	d.text.at[at] = position{line: tok.Position.Line, column: tok.Position.Column}
}

// resolve follows anchors, aliases and tags to the value node; nil for null.
func (d *decoder) resolve(n ast.Node, at string) ast.Node {
	for range 100 {
		switch t := n.(type) {
		case *ast.AnchorNode:
			d.anchors[t.Name.GetToken().Value] = t.Value
			n = t.Value
		case *ast.AliasNode:
			name := t.Value.GetToken().Value
			anchored, ok := d.anchors[name]
			if !ok {
				d.fault(at, fmt.Sprintf("alias *%s has no anchor before it", name), "")
				return nil
			}
			n = anchored
		case *ast.TagNode:
			n = t.Value
		case *ast.NullNode, nil:
			return nil
		default:
			return n
		}
	}
	return nil
}

func (d *decoder) value(n ast.Node, v reflect.Value, at string) {
	if n != nil {
		d.note(at, n)
	}
	if d.nodes++; d.nodes > maxNodes {
		if d.nodes == maxNodes+1 {
			d.fault(at, "the document is too large", "aliases may multiply it")
		}
		return
	}
	if n = d.resolve(n, at); n == nil {
		return
	}
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		v = v.Elem()
	}
	if p, ok := v.Addr().Interface().(*netip.Prefix); ok {
		d.scalar(n, at, func(text []byte) error {
			if p.UnmarshalText(text) != nil {
				return fmt.Errorf("a network such as 10.0.0.0/8 or 2001:db8::/32 is expected")
			}
			return nil
		})
		return
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		before := len(d.faults)
		d.scalar(n, at, u.UnmarshalText)
		if d.strictInts && v.IsZero() && len(d.faults) == before && n.Type() != ast.NullType {
			d.fault(at, "0 is not allowed here", "leave the key out for the default")
		}
		return
	}
	if u, ok := v.Addr().Interface().(json.Unmarshaler); ok {
		b, err := json.Marshal(d.plain(n, at, 0))
		if err == nil {
			err = u.UnmarshalJSON(b)
		}
		if err != nil {
			d.fault(at, err.Error(), "")
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.object(n, v, at)
	case reflect.Slice:
		d.list(n, v, at)
	case reflect.String:
		d.scalar(n, at, func(b []byte) error {
			if _, isString := n.(*ast.StringNode); !isString && n.Type() != ast.LiteralType {
				return fmt.Errorf("a string is expected, not %s", kindOf(n))
			}
			v.SetString(string(b))
			return nil
		})
	case reflect.Bool:
		b, ok := n.(*ast.BoolNode)
		if !ok {
			d.fault(at, "true or false is expected, not "+kindOf(n), "")
			return
		}
		v.SetBool(b.Value)
	case reflect.Int, reflect.Int64:
		d.integer(n, v, at)
	default:
		panic("configs: no decoding for " + v.Type().String())
	}
}

func (d *decoder) integer(n ast.Node, v reflect.Value, at string) {
	raw := n.GetToken().Value
	i, err := strconv.ParseInt(raw, 10, 64)
	switch {
	case n.Type() == ast.StringType && n.GetToken().Type == token.StringType && isNumber(raw):
		// The parser takes a number beyond 64 bits, and 1e3, for a word.
		if err == nil || errors.Is(err, strconv.ErrRange) {
			d.fault(at, "the number is too large", "")
		} else {
			d.fault(at, "a whole number in decimal digits is expected", "")
		}
	case n.Type() != ast.IntegerType && n.Type() != ast.FloatType:
		d.fault(at, "a whole number is expected, not "+kindOf(n), "")
	case errors.Is(err, strconv.ErrRange) || err == nil && v.OverflowInt(i):
		d.fault(at, "the number is too large", "")
	case err != nil:
		d.fault(at, "a whole number in decimal digits is expected", "")
	case i == 0 && d.strictInts:
		d.fault(at, "0 is not allowed here", "leave the key out for the default")
	default:
		v.SetInt(i)
	}
}

// scalar hands the text of a scalar node to set.
func (d *decoder) scalar(n ast.Node, at string, set func([]byte) error) {
	var raw string
	switch n := n.(type) {
	case *ast.StringNode:
		raw = n.Value
	case *ast.LiteralNode:
		raw = n.Value.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		raw = n.GetToken().Value
	default:
		d.fault(at, "a single value is expected, not "+kindOf(n), "")
		return
	}
	if err := set([]byte(raw)); err != nil {
		hint := ""
		if strings.HasPrefix(err.Error(), "a string is expected") {
			hint = fmt.Sprintf("quote it: %q", raw)
		}
		d.fault(at, err.Error(), hint)
	}
}

func (d *decoder) list(n ast.Node, v reflect.Value, at string) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		d.fault(at, "a list is expected, not "+kindOf(n), "")
		return
	}
	out := reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values))
	for i, item := range seq.Values {
		d.value(item, out.Index(i), at+gatehouse.Pointer(i))
	}
	v.Set(out)
}

func (d *decoder) object(n ast.Node, v reflect.Value, at string) {
	pairs, ok := mapping(n)
	if !ok {
		d.fault(at, "a mapping is expected, not "+kindOf(n), "")
		return
	}
	fields := map[string]reflect.Value{}
	names := []string{}
	for i := range v.NumField() {
		tag, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		if tag != "" && tag != "-" {
			fields[tag] = v.Field(i)
			names = append(names, tag)
		}
	}
	seen := map[string]bool{}
	for _, p := range pairs {
		if p.Key.IsMergeKey() {
			d.unknown(at, p, "merge keys (<<) are not supported", "write the keys out, or use an alias for a whole value")
			continue
		}
		key := keyText(p)
		field, known := fields[key]
		switch {
		case !known:
			hint := ""
			if near := gatehouse.Nearest(key, names); near != "" {
				hint = fmt.Sprintf("did you mean %q?", near)
			} else {
				hint = "the keys here are " + strings.Join(names, ", ")
			}
			d.unknown(at, p, fmt.Sprintf("unknown key %q", key), hint)
		case seen[key]:
			d.unknown(at, p, fmt.Sprintf("key %q is given twice", key), "")
		default:
			seen[key] = true
			d.value(p.Value, field, at+gatehouse.Pointer(key))
		}
	}
}

// unknown faults a key itself, under a pointer that no value has.
func (d *decoder) unknown(at string, p *ast.MappingValueNode, reason, hint string) {
	tok := p.Key.GetToken()
	plain := at + gatehouse.Pointer(keyText(p))
	at = plain + "/" + strconv.Itoa(tok.Position.Offset)
	d.text.keys[at] = plain
	d.text.at[at] = position{line: tok.Position.Line, column: tok.Position.Column}
	d.fault(at, reason, hint)
}

func keyText(p *ast.MappingValueNode) string {
	if s, ok := p.Key.(*ast.StringNode); ok {
		return s.Value
	}
	return p.Key.GetToken().Value
}

func mapping(n ast.Node) ([]*ast.MappingValueNode, bool) {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, true
	}
	return nil, false
}

// plain turns a node into what encoding/json writes.
func (d *decoder) plain(n ast.Node, at string, depth int) any {
	if d.nodes++; d.nodes > maxNodes {
		return nil
	}
	if depth > maxDepth { // only an alias within its own anchor gets here
		d.fault(at, "an alias stands within its own value", "")
		d.nodes = maxNodes // the next ones are not looked at
		return nil
	}
	switch n := d.resolve(n, at).(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		pairs, _ := mapping(n)
		m := map[string]any{}
		for _, p := range pairs {
			key := keyText(p)
			if _, twice := m[key]; twice {
				d.unknown(at, p, fmt.Sprintf("key %q is given twice", key), "")
			}
			m[key] = d.plain(p.Value, at, depth+1)
		}
		return m
	case *ast.SequenceNode:
		s := make([]any, len(n.Values))
		for i, item := range n.Values {
			s[i] = d.plain(item, at, depth+1)
		}
		return s
	case *ast.BoolNode:
		return n.Value
	case *ast.StringNode:
		return n.Value
	case *ast.LiteralNode:
		return n.Value.Value
	case *ast.IntegerNode:
		return json.Number(n.GetToken().Value)
	case nil:
		return nil
	default:
		return n.GetToken().Value
	}
}

func kindOf(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.StringNode, *ast.LiteralNode:
		return "a string"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "a number"
	case *ast.BoolNode:
		return "true or false"
	}
	return "that"
}

// Locate gives faults their places.
func (t *Text) Locate(faults gatehouse.Faults) Problems {
	var ps Problems
	for _, f := range faults {
		p := Problem{Place: t.place(f), Reason: f.Reason, Hint: f.Hint, Warning: f.Warning}
		if f.Also != "" {
			also := t.place(gatehouse.Fault{Pointer: f.Also})
			p.Also = &also
		}
		p.Excerpt = t.line(p.Line)
		ps = append(ps, p)
	}
	return ps
}

func (t *Text) line(n int) string {
	if n < 1 || n > len(t.lines) {
		return ""
	}
	return strings.TrimRight(t.lines[n-1], "\r")
}

// place finds a pointer, or the nearest value around it that is written.
func (t *Text) place(f gatehouse.Fault) Place {
	at := f.Pointer
	pos, ok := t.at[at]
	for !ok && at != "" {
		at = at[:strings.LastIndexByte(at, '/')]
		pos, ok = t.at[at]
	}
	if f.Line > 0 && pos.block > 0 && at == f.Pointer {
		return Place{t.name, pos.block + f.Line, max(f.Column, 1) + pos.indent}
	}
	return Place{t.name, pos.line, pos.column}
}

// indent returns how many spaces stand before the text of the literal block
// that begins below line.
func (t *Text) indent(line int, text string) int {
	for l := range strings.Lines(text) {
		line++
		if l = strings.TrimRight(l, "\r\n"); strings.TrimSpace(l) != "" {
			return max(0, len(t.line(line))-len(l))
		}
	}
	return 0
}
