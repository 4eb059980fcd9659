package policy

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestIssuer: policies read who issued the token, decisions of two issuers are
// apart, and events say it and are read back.
func TestIssuer(t *testing.T) {
	p := compiledFrom(t, testEngine(t, patient), `allow if input.principal.issuer == "https://one.example"
reason := "nobody's" if not input.principal.issuer`)
	f := func(issuer, want string) {
		t.Helper()
		in := &Input{Tenant: "acme", Auth: "required", Principal: NewIssued(issuer, "user", "ada", "acme", nil, nil, nil, nil), Time: time.Unix(1, 0)}
		for range 2 {
			d := p.Decide(in)
			if got := fmt.Sprint(d.Allow, " ", d.Reason, " ", d.Err); got != want {
				t.Errorf("%q: %s, want %s", issuer, got, want)
			}
		}
		e := logged(t, p, in)
		text, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		var back Entry
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatal(err)
		}
		if got := e.Input().Principal.Issuer + " " + back.Input().Principal.Issuer; got != issuer+" "+issuer {
			t.Errorf("kept and read back: %s, want %s", got, issuer)
		}
		if has := strings.Contains(string(text), `"issuer"`); has != (issuer != "") {
			t.Errorf("%q: %s", issuer, text)
		}
	}
	f("https://one.example", "true  <nil>")
	f("https://two.example", "false  <nil>")
	f("", "false nobody's <nil>")
}
