package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
)

// answer is a decision in JSON.
type answer struct {
	Allow       bool            `json:"allow"`
	By          string          `json:"by"`
	Reason      string          `json:"reason,omitempty"`
	Public      bool            `json:"public,omitempty"`
	Status      int             `json:"status,omitempty"`
	Obligations *jsonObligation `json:"obligations,omitempty"`
	Error       string          `json:"error,omitempty"`
}

// jsonObligation are obligations as policies write them.
type jsonObligation struct {
	Headers *jsonHeaders      `json:"headers,omitempty"`
	Cost    int64             `json:"cost,omitempty"`
	Log     map[string]string `json:"log,omitempty"`
	Limit   []string          `json:"limit,omitempty"`
	StepUp  string            `json:"step_up,omitempty"`
}

type jsonHeaders struct {
	Set    map[string]string `json:"set,omitempty"`
	Remove []string          `json:"remove,omitempty"`
}

// MarshalJSON writes the members of Decision in lower case, and Err as error.
func (d Decision) MarshalJSON() ([]byte, error) {
	r := answer{Allow: d.Allow, By: d.By, Reason: d.Reason, Public: d.Public, Status: d.Status}
	if d.Err != nil {
		r.Error = d.Err.Error()
	}
	if o := d.Obligations; o != nil {
		r.Obligations = &jsonObligation{Cost: o.Cost, Log: members(o.Log), Limit: o.Limits, StepUp: o.StepUp}
		if len(o.Set)+len(o.Remove) > 0 {
			r.Obligations.Headers = &jsonHeaders{members(o.Set), o.Remove}
		}
	}
	return json.Marshal(r)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (d *Decision) UnmarshalJSON(b []byte) error {
	var r answer
	if err := json.Unmarshal(b, &r); err != nil {
		return err
	}
	*d = Decision{Allow: r.Allow, By: r.By, Reason: r.Reason, Public: r.Public, Status: r.Status}
	if r.Error != "" {
		d.Err = errors.New(r.Error)
	}
	if o := r.Obligations; o != nil {
		d.Obligations = &Obligations{Cost: o.Cost, Log: fieldsOf(o.Log), Limits: o.Limit, StepUp: o.StepUp}
		if o.Headers != nil {
			d.Obligations.Set, d.Obligations.Remove = fieldsOf(o.Headers.Set), o.Headers.Remove
		}
	}
	return nil
}

func members(fs []Field) map[string]string {
	m := make(map[string]string, len(fs))
	for _, f := range fs {
		m[f.Name] = f.Value
	}
	return m
}

func fieldsOf(m map[string]string) []Field {
	var fs []Field
	for _, name := range slices.Sorted(maps.Keys(m)) {
		fs = append(fs, Field{name, m[name]})
	}
	return fs
}

// event is the part of OPA's EventV1 that entries have.
type event struct {
	Labels      map[string]string `json:"labels"`
	DecisionID  string            `json:"decision_id"`
	Path        string            `json:"path"`
	Input       map[string]any    `json:"input"`
	Result      Decision          `json:"result"`
	Erased      []string          `json:"erased,omitempty"`
	Masked      []string          `json:"masked,omitempty"`
	RequestedBy string            `json:"requested_by,omitempty"`
	Timestamp   time.Time         `json:"timestamp"`
	Metrics     map[string]int64  `json:"metrics,omitempty"`
	Custom      custom            `json:"custom"`
}

type custom struct {
	Replayable bool `json:"replayable"`
	Tainted    bool `json:"tainted,omitempty"`
}

// decideMetric is the name of Took, in nanoseconds.
const decideMetric = "timer_gatehouse_decide_ns"

// MarshalJSON writes an event of OPA's decision log.
func (e *Entry) MarshalJSON() ([]byte, error) {
	doc, err := e.document()
	if err != nil {
		return nil, err
	}
	out := event{
		Labels:     map[string]string{"tenant": e.Tenant, "revision": e.Revision},
		DecisionID: e.ID, Path: "gatehouse/" + e.Decision.By, Input: doc, Result: e.Decision,
		Erased: e.Erased, Masked: e.Masked, Timestamp: e.At.UTC(), Custom: custom{e.Replayable, e.tainted},
	}
	if e.present&fieldIP != 0 && e.input.Client.IsValid() {
		out.RequestedBy = e.input.Client.String()
	}
	if e.Took > 0 {
		out.Metrics = map[string]int64{decideMetric: int64(e.Took)}
	}
	return json.Marshal(out)
}

// document is the input as policies see it, without what was removed.
func (e *Entry) document() (map[string]any, error) {
	term := e.input.document(&readSet{fields: e.present}, &words{})
	v, err := ast.JSON(term.Value)
	if err != nil {
		return nil, fmt.Errorf("policy: write input of decision %s: %w", e.ID, err)
	}
	doc, _ := v.(map[string]any)
	for _, gone := range e.Erased {
		if path, ok := strings.CutPrefix(gone, "/input/"); ok {
			tokens := strings.Split(path, "/")
			for i := range tokens {
				tokens[i] = unescapePointer.Replace(tokens[i])
			}
			erase(doc, tokens)
		}
	}
	return doc, nil
}

// UnmarshalJSON reads what MarshalJSON writes.
func (e *Entry) UnmarshalJSON(b []byte) error {
	var in event
	dec := json.NewDecoder(strings.NewReader(string(b)))
	dec.UseNumber()
	if err := dec.Decode(&in); err != nil {
		return err
	}
	*e = Entry{
		ID: in.DecisionID, Tenant: in.Labels["tenant"], Revision: in.Labels["revision"], At: in.Timestamp,
		Took: time.Duration(in.Metrics[decideMetric]), Decision: in.Result, Erased: in.Erased, Masked: in.Masked,
		Replayable: in.Custom.Replayable, tainted: in.Custom.Tainted,
	}
	e.input.Time = e.At
	d := document{in.Input, e}
	return d.read()
}

// document reads a decoded input into an entry.
type document struct {
	doc map[string]any
	e   *Entry
}

// at returns the value at the field's place. The field counts as present, but
// for a certificate that was erased.
func (d document) at(f fieldPointer) (any, bool) {
	v, ok := any(d.doc), true
	for name := range strings.SplitSeq(f.pointer[1:], "/") {
		m, _ := v.(map[string]any)
		if v, ok = m[name]; !ok {
			break
		}
	}
	if ok || f.field == fieldCert && !slices.Contains(d.e.Erased, "/input"+f.pointer) {
		d.e.present |= f.field
	}
	return v, ok
}

func (d document) read() error {
	in := &d.e.input
	for _, f := range fieldPointers {
		v, ok := d.at(f)
		if !ok {
			continue
		}
		text, isText := v.(string)
		object, isObject := v.(map[string]any)
		number, isNumber := v.(json.Number)
		is := isText
		switch f.field {
		case fieldTenant:
			in.Tenant = text
		case fieldPlan:
			in.Plan = text
		case fieldRoute:
			in.Route = text
		case fieldAuth:
			in.Auth = text
		case fieldMethod:
			in.Method = []byte(text)
		case fieldHost:
			in.Host = []byte(text)
		case fieldPath:
			in.Path = []byte(text)
		case fieldProtocol:
			in.Protocol = []byte(text)
		case fieldIP:
			if text != "" {
				var err error
				in.Client, err = netip.ParseAddr(text)
				is = err == nil
			}
		case fieldFeatures:
			is, in.Features = isObject, slices.Sorted(maps.Keys(object))
		case fieldQuery:
			is, in.Query = isObject, queryOf(object)
		case fieldHeaders:
			is, in.Headers = isObject, headersOf(object)
		case fieldPrincipal:
			is, in.Principal = isObject, principalFrom(object)
		case fieldCert:
			is, in.Cert = isObject, newCertificate(object)
		case fieldBodySize:
			n, err := number.Int64()
			is, in.BodySize = isNumber && err == nil, n
		case fieldTLS:
			in.TLS, is = v.(bool)
		case fieldTime:
			n, err := number.Int64()
			is, in.Time = isNumber && err == nil, time.Unix(0, n)
		case fieldSegments:
			is = true // path says the same
		}
		if !is {
			return fmt.Errorf("policy: input%s of decision %s is of the wrong type", f.pointer, d.e.ID)
		}
	}
	return nil
}

func queryOf(object map[string]any) []byte {
	var query []byte
	for _, name := range slices.Sorted(maps.Keys(object)) {
		values, _ := object[name].([]any)
		for _, v := range values {
			s, _ := v.(string)
			if s != maskedValue {
				s = url.QueryEscape(s)
			}
			query = append(query, url.QueryEscape(name)+"="+s+"&"...)
		}
	}
	return query
}

func headersOf(object map[string]any) keptFields {
	var fs keptFields
	for _, name := range slices.Sorted(maps.Keys(object)) {
		s, _ := object[name].(string)
		fs = append(fs, Field{name, s})
	}
	return fs
}

// Export writes entries as a JSON array of events of OPA's decision log.
func Export(w io.Writer, entries iter.Seq[*Entry]) error {
	before := "["
	for e := range entries {
		b, err := json.Marshal(e)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(w, before); err != nil {
			return err
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
		before = ",\n"
	}
	if before == "[" {
		before = "[]"
	} else {
		before = "]"
	}
	_, err := io.WriteString(w, before+"\n")
	return err
}

// Import reads what Export wrote. It ends at the first error.
func Import(r io.Reader) iter.Seq2[*Entry, error] {
	return func(yield func(*Entry, error) bool) {
		dec := json.NewDecoder(r)
		if _, err := dec.Token(); err != nil {
			yield(nil, err)
			return
		}
		for dec.More() {
			e := &Entry{}
			if err := dec.Decode(e); err != nil {
				yield(nil, err)
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}
