package policy

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// TestSize: what a principal says of its size is near what it takes.
func TestSize(t *testing.T) {
	groups := make([]string, 300)
	for i := range groups {
		groups[i] = fmt.Sprintf("team-%05d", i)
	}
	list, err := json.Marshal(groups)
	if err != nil {
		t.Fatal(err)
	}
	var members []string
	for i := range 200 {
		members = append(members, fmt.Sprintf(`"name%d":%d`, i, i))
	}
	f := func(name, claims string, groups []string) {
		t.Helper()
		n := max(32, 4<<20/max(1000, 50*len(claims))) // some megabytes, or what others do is seen
		keep := make([]*Principal, n)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.GC() // empties pools
		runtime.ReadMemStats(&before)
		for i := range keep {
			var m map[string]any
			d := json.NewDecoder(strings.NewReader(claims))
			d.UseNumber()
			if err := d.Decode(&m); err != nil {
				t.Fatal(err)
			}
			var own []string
			if groups != nil {
				own = append(own, groups...)
			}
			keep[i] = NewIssued("https://issuer.example", "user", "bob", "acme", nil, nil, own, m)
		}
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&after)
		takes, told := (int(after.HeapAlloc)-int(before.HeapAlloc))/n, keep[0].Size()
		runtime.KeepAlive(keep)
		if told < takes || told > 3*takes {
			t.Errorf("%s takes %d bytes and says %d", name, takes, told)
		}
	}
	f("nothing", `{}`, nil)
	f("a token", `{"iss":"https://issuer.example","aud":["a","b"],"sub":"bob","iat":1790000000,"exp":1790000000,"roles":["a","b"],"scope":"r w x"}`, nil)
	f("300 groups", `{"groups":`+string(list)+`}`, groups)
	f("a long text", `{"x":"`+strings.Repeat("x", 6000)+`"}`, nil)
	f("arrays", `{"x":[`+strings.Repeat("[],", 2000)+`[]]}`, nil)
	f("objects", `{"x":[`+strings.Repeat("{},", 2000)+`{}]}`, nil)
	f("numbers", `{"x":[`+strings.Repeat("1,", 2000)+`1]}`, nil)
	f("members", `{"x":{`+strings.Join(members, ",")+`}}`, nil)
	f("depth", strings.Repeat(`{"x":`, 30)+`"`+strings.Repeat("x", 5000)+`"`+strings.Repeat("}", 30), nil)
	f("depth of arrays", `{"x":`+strings.Repeat("[", 30)+strings.Repeat("]", 30)+"}", nil)
}
