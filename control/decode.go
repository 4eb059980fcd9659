package control

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/gatehouse-gateway/gatehouse"
)

// Decode reads a JSON value into into, a pointer, and returns every fault:
// unknown and repeated keys, values of the wrong form. Keys are told apart by
// case. Values are not repeated in the faults. null is as good as absent.
func Decode(text []byte, into any) gatehouse.Faults {
	if faults := malformed(text); faults != nil {
		return faults
	}
	d := decoder{in: json.NewDecoder(bytes.NewReader(text)), fields: map[reflect.Type]map[string][]int{}}
	d.value(reflect.ValueOf(into).Elem(), "")
	return d.faults
}

// malformed says where a text is not JSON; nil: it is.
func malformed(text []byte) gatehouse.Faults {
	if json.Valid(text) {
		return nil
	}
	reason := "a JSON value is expected"
	var syntax *json.SyntaxError
	if errors.As(json.Unmarshal(text, new(any)), &syntax) {
		reason = fmt.Sprintf("not JSON at byte %d", syntax.Offset)
	}
	return gatehouse.Faults{{Reason: reason}}
}

// maxDecodeFaults bounds what is said of one body.
const maxDecodeFaults = 100

type decoder struct {
	in     *json.Decoder
	faults gatehouse.Faults
	fields map[reflect.Type]map[string][]int
}

func (d *decoder) fault(at, reason, hint string) {
	if len(d.faults) < maxDecodeFaults {
		d.faults = append(d.faults, gatehouse.Fault{Pointer: at, Reason: reason, Hint: hint})
	}
}

// raw reads the next value. The text is valid, so that it cannot fail.
func (d *decoder) raw() json.RawMessage {
	var raw json.RawMessage
	if err := d.in.Decode(&raw); err != nil {
		panic("control: " + err.Error())
	}
	return raw
}

func (d *decoder) token() json.Token {
	t, err := d.in.Token()
	if err != nil {
		panic("control: " + err.Error())
	}
	return t
}

func (d *decoder) value(v reflect.Value, at string) {
	switch u := v.Addr().Interface().(type) {
	case encoding.TextUnmarshaler:
		d.text(u, at)
		return
	case json.Unmarshaler:
		if raw := d.raw(); string(raw) != "null" {
			err := u.UnmarshalJSON(raw)
			if inner, ok := errors.AsType[gatehouse.Faults](err); ok { // of Decode
				d.faults = append(d.faults, inner.Under(at)...)
			} else if err != nil {
				d.fault(at, err.Error(), "")
			}
		}
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		raw := d.raw()
		if string(raw) == "null" {
			return
		}
		fresh := reflect.New(v.Type().Elem())
		d.within(raw, fresh.Elem(), at)
		v.Set(fresh)
	case reflect.Struct:
		d.object(v, at)
	case reflect.Map:
		d.mapping(v, at)
	case reflect.Slice:
		d.list(v, at)
	default:
		d.scalar(v, d.raw(), at)
	}
}

func (d *decoder) text(u encoding.TextUnmarshaler, at string) {
	raw := d.raw()
	text := string(raw)
	switch raw[0] {
	case 'n':
		return
	case '{', '[':
		d.fault(at, "a single value is expected", "")
		return
	case '"':
		text = unquote(raw)
	}
	if err := u.UnmarshalText([]byte(text)); err != nil {
		d.fault(at, WithoutValue(err.Error(), text), "")
	}
}

func unquote(raw json.RawMessage) string {
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		panic("control: " + err.Error()) // it is a JSON string
	}
	return s
}

// WithoutValue takes a rejected value out of what is said of it.
func WithoutValue(reason, value string) string {
	const short = 3 // anything may hold so little
	reason = strings.ReplaceAll(reason, strconv.Quote(value), "…")
	if len(value) > short {
		reason = strings.ReplaceAll(reason, value, "…")
	}
	return reason
}

func (d *decoder) scalar(v reflect.Value, raw json.RawMessage, at string) {
	if raw[0] == 'n' {
		return
	}
	switch v.Kind() {
	case reflect.String:
		if raw[0] != '"' {
			d.fault(at, "a string is expected", "")
			return
		}
		v.SetString(unquote(raw))
	case reflect.Bool:
		if raw[0] != 't' && raw[0] != 'f' {
			d.fault(at, "true or false is expected", "")
			return
		}
		v.SetBool(raw[0] == 't')
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(string(raw), 10, 64)
		if err != nil || v.OverflowInt(n) {
			d.fault(at, "a whole number is expected", "")
			return
		}
		v.SetInt(n)
	case reflect.Uint64:
		n, err := strconv.ParseUint(string(raw), 10, 64)
		if err != nil || n > math.MaxInt64 {
			d.fault(at, "a whole number from 0 is expected", "")
			return
		}
		v.SetUint(n)
	default:
		panic("control: no decoding for " + v.Type().String())
	}
}

// enter reads the beginning of an object or list. It reports false for null,
// and for a fault.
func (d *decoder) enter(delim json.Delim, what, at string) bool {
	t := d.token()
	if t == delim {
		return true
	}
	if t == nil {
		return false
	}
	d.fault(at, what+" is expected", "")
	for depth := nesting(t); depth > 0; { // the rest of it
		depth += nesting(d.token())
	}
	return false
}

// nesting is by how much a token changes the depth.
func nesting(t json.Token) int {
	switch t {
	case json.Delim('{'), json.Delim('['):
		return 1
	case json.Delim('}'), json.Delim(']'):
		return -1
	}
	return 0
}

func (d *decoder) list(v reflect.Value, at string) {
	if !d.enter('[', "a list", at) {
		return
	}
	out := reflect.MakeSlice(v.Type(), 0, 4)
	for i := 0; d.in.More(); i++ {
		out = reflect.Append(out, reflect.Zero(v.Type().Elem()))
		d.member(out.Index(i), at+gatehouse.Pointer(i))
	}
	d.token()
	v.Set(out)
}

// member reads what a list holds. There null would be no absence, but an empty
// value.
func (d *decoder) member(v reflect.Value, at string) {
	raw := d.raw()
	if string(raw) == "null" {
		d.fault(at, "a value is expected, not null", "")
		return
	}
	d.within(raw, v, at)
}

// within reads a value that has been cut out.
func (d *decoder) within(raw json.RawMessage, v reflect.Value, at string) {
	part := decoder{in: json.NewDecoder(bytes.NewReader(raw)), fields: d.fields, faults: d.faults}
	part.value(v, at)
	d.faults = part.faults
}

func (d *decoder) mapping(v reflect.Value, at string) {
	if !d.enter('{', "an object", at) {
		return
	}
	out := reflect.MakeMap(v.Type())
	for d.in.More() {
		name, _ := d.token().(string)
		key := reflect.ValueOf(name).Convert(v.Type().Key())
		if out.MapIndex(key).IsValid() {
			d.fault(at+gatehouse.Pointer(name), "the key is given twice", "")
		}
		one := reflect.New(v.Type().Elem()).Elem()
		d.value(one, at+gatehouse.Pointer(name))
		out.SetMapIndex(key, one)
	}
	d.token()
	v.Set(out)
}

func (d *decoder) object(v reflect.Value, at string) {
	if !d.enter('{', "an object", at) {
		return
	}
	fields := d.fieldsOf(v.Type())
	seen := map[string]bool{}
	for d.in.More() {
		name, _ := d.token().(string)
		index, known := fields[name]
		switch {
		case !known:
			d.raw()
			hint := ""
			if near := gatehouse.Nearest(name, slices.Sorted(maps.Keys(fields))); near != "" {
				hint = fmt.Sprintf("did you mean %q?", near)
			}
			d.fault(at+gatehouse.Pointer(name), "unknown key", hint)
		case seen[name]:
			d.raw()
			d.fault(at+gatehouse.Pointer(name), "the key is given twice", "")
		default:
			seen[name] = true
			d.value(v.FieldByIndex(index), at+gatehouse.Pointer(name))
		}
	}
	d.token()
}

// fieldsOf are the keys that a struct has, those of structs in it among them.
func (d *decoder) fieldsOf(t reflect.Type) map[string][]int {
	if known, ok := d.fields[t]; ok {
		return known
	}
	fields := map[string][]int{}
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name != "" && name != "-" && f.IsExported() {
			fields[name] = f.Index
		}
	}
	d.fields[t] = fields
	return fields
}
