package ingress

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func names(fields []Field) string {
	var s []string
	for i := range fields {
		s = append(s, string(fields[i].Name))
	}
	return strings.Join(s, " ")
}

// What the backend does not get as it came is out of sight, and what the peer
// says of others is, unless it is believed.
func TestHide(t *testing.T) {
	f := func(untrusted bool, visible, hidden string) {
		t.Helper()
		var r Request
		err := parse(&r, "GET / HTTP/1.1\r\nHost: x\r\nX-Reviewed: 1\r\nA: 1\r\nX-Forwarded-For: 1.2.3.4\r\nConnection: x-reviewed\r\nForwarded: for=1.2.3.4\r\n"+
			"X-Gatehouse-Principal: root\r\nB: 2\r\nTE: trailers\r\nX-Original-URL: /b\r\nx_gatehouse_tenant: b\r\nA: 3\r\nX-Forwarded-Proto: https\r\n\r\n")
		if err != nil {
			t.Fatal(err)
		}
		r.Hide(untrusted)
		if got := names(r.Fields[:r.Len()]); got != visible {
			t.Errorf("visible: %s\nwant     %s", got, visible)
		}
		if got := names(r.Fields[r.Len():]); got != hidden {
			t.Errorf("hidden: %s\nwant    %s", got, hidden)
		}
	}
	f(true, "Host A B A", "X-Reviewed X-Forwarded-For Connection Forwarded X-Gatehouse-Principal TE X-Original-URL x_gatehouse_tenant X-Forwarded-Proto")
	f(false, "Host A X-Forwarded-For Forwarded B X-Original-URL A X-Forwarded-Proto", "X-Reviewed Connection X-Gatehouse-Principal TE x_gatehouse_tenant")
}

// Hide loses no field and changes the order of neither part, and Len, At and
// First see the visible part only.
func TestHideProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kinds := rapid.SliceOfN(rapid.IntRange(int(Other), int(Own)), 0, 30).Draw(t, "kinds")
		untrusted := rapid.Bool().Draw(t, "untrusted")
		var r Request
		var visible, hidden []Field
		for i, k := range kinds {
			f := Field{Kind(k), fmt.Appendf(nil, "n%d", i%7), fmt.Append(nil, i)}
			r.Fields = append(r.Fields, f)
			if isVisible(f.Kind, untrusted) {
				visible = append(visible, f)
			} else {
				hidden = append(hidden, f)
			}
		}
		r.Hide(untrusted)
		same := func(a, b Field) bool {
			return a.Kind == b.Kind && string(a.Name) == string(b.Name) && string(a.Value) == string(b.Value)
		}
		if !slices.EqualFunc(r.Fields, slices.Concat(visible, hidden), same) {
			t.Fatalf("fields %v, want %v and then %v", r.Fields, visible, hidden)
		}
		if r.Len() != len(visible) {
			t.Fatalf("Len is %d of %d", r.Len(), len(visible))
		}
		for i := range visible {
			if name, value := r.At(i); string(name) != string(visible[i].Name) || string(value) != string(visible[i].Value) {
				t.Fatalf("At(%d) is %s: %s", i, name, value)
			}
		}
		for _, name := range []string{"N0", "n1", "n2", "N3", "n4", "n5", "n6", "n7"} {
			i := slices.IndexFunc(visible, func(f Field) bool { return EqualFold(f.Name, name) })
			value, ok := r.First(name)
			if ok != (i >= 0) || ok && string(value) != string(visible[i].Value) {
				t.Fatalf("First(%s) is %s, %v", name, value, ok)
			}
		}
	})
}

// isVisible says anew what Hide leaves in sight.
func isVisible(k Kind, untrusted bool) bool {
	believed := k == Forwarded || k == ForwardedFor || k == XForwarded
	return k != Connection && k != HopByHop && k != Own && (!believed || !untrusted)
}
