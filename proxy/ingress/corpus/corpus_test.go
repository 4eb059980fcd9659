package corpus

import (
	"fmt"
	"testing"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{
			"a case", "# about\n== a\nsource: RFC 9112 3\n> GET / HTTP/1.1\n>\n> \\x00\\{ab*2}\\\\\\\nwant: 200 h /p -1\nwant: 400/body\n",
			`"GET / HTTP/1.1\r\n\r\n\x00abab\\" [{200 false h /p -1 true} {400 true   0 false}] true`,
		},
		{"close", "== a\n> x\nwant: 200\nclose: yes", `"x\r\n" [{200 false   0 false}] true`},
		{"no close", "== a\n> x\nwant: 200", `"x\r\n" [{200 false   0 false}] false`},
		{"outside", "> x", "line 1: outside of a case"},
		{"unknown line", "== a\nverdict: 400", "line 2: not understood"},
		{"unknown escape", "== a\n> \\q", `line 2: escape in "\\q": invalid syntax`},
		{"repetition", "== a\n> \\{a*b}", `line 2: malformed repetition "a*b"`},
		{"status", "== a\nwant: ok", `line 2: status "ok"`},
		{"half a verdict", "== a\nwant: 200 h", "line 2: a status, or a status with authority, path and length"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cases, err := parse(nil, "g", tt.in)
			got := fmt.Sprint(err)
			if err == nil {
				got = fmt.Sprintf("%q %v %v", cases[0].Raw, cases[0].Wants, cases[0].Close)
			}
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}
