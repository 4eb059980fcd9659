package corpus

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// public is one case of a published suite. A code point of Raw is one byte.
type public struct {
	ID  string `json:"id"`
	RFC string `json:"rfc"`
	Raw string `json:"raw"`
}

// LoadPublic reads the published suites in dir, "proxy/ingress/testdata/public",
// with our verdicts from its verdicts.txt: a line for each case, of its id, the
// statuses as in Want, "close", and behind "#" why, where the suite thinks
// otherwise. A request that a suite has without Host is there a second time
// with one, as "id+host".
func LoadPublic(dir string) ([]Case, error) {
	cases, err := readPublic(dir)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(dir, "verdicts.txt"))
	if err != nil {
		return nil, err
	}
	verdicts := map[string]string{}
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		if id, verdict, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			verdicts[id] = verdict
		}
	}
	for i := range cases {
		c := &cases[i]
		verdict, ok := verdicts[c.Name]
		if !ok {
			return nil, fmt.Errorf("no verdict on %s", c.Name)
		}
		delete(verdicts, c.Name)
		for word := range strings.FieldsSeq(verdict) {
			if word == "close" {
				c.Close = true
			} else if err := c.want(word); err != nil {
				return nil, fmt.Errorf("verdict on %s: %w", c.Name, err)
			}
		}
		if len(c.Wants) == 0 {
			return nil, fmt.Errorf("no verdict on %s", c.Name)
		}
	}
	for id := range verdicts {
		return nil, fmt.Errorf("a verdict on %s, which is no case", id)
	}
	return cases, nil
}

func readPublic(dir string) ([]Case, error) {
	var cases []Case
	for _, suite := range []string{"http11probe", "llhttp"} {
		text, err := os.ReadFile(filepath.Join(dir, suite+".json"))
		if err != nil {
			return nil, err
		}
		var ps []public
		if err := json.Unmarshal(text, &ps); err != nil {
			return nil, fmt.Errorf("suite %s: %w", suite, err)
		}
		for _, p := range ps {
			c := Case{Name: p.ID, Source: strings.TrimSpace(suite + " " + p.RFC)}
			for _, r := range p.Raw {
				c.Raw = append(c.Raw, byte(r))
			}
			cases = append(cases, c)
			if with := withHost(c.Raw); with != nil {
				cases = append(cases, Case{Name: c.Name + "+host", Source: c.Source, Raw: with})
			}
		}
	}
	return cases, nil
}

// withHost returns raw with a Host behind its request line; nil where there
// is one, or no place for one.
func withHost(raw []byte) []byte {
	line, rest, ok := bytes.Cut(raw, []byte(" HTTP/1.1\r\n"))
	if !ok || bytes.Contains(bytes.ToLower(raw), []byte("host:")) || bytes.ContainsAny(line, "\x00") {
		return nil
	}
	return bytes.Join([][]byte{line, []byte(" HTTP/1.1\r\nHost: a.test\r\n"), rest}, nil)
}
