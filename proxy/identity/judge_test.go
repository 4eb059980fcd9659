package identity

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	gatehouse "github.com/gatehouse-gateway/gatehouse"
)

// Judging a key says what its use would, and is none.
func TestJudgeKey(t *testing.T) {
	good, bad := newKey(t, 1), newKey(t, 2)
	v := compile(t, "studio", gatehouse.Identity{APIKeys: &gatehouse.APIKeys{Keys: []gatehouse.Key{{ID: "ci", Hash: good.Hash(), Roles: []string{"dev"}}}}})
	now, from := time.Now(), netip.MustParseAddr("192.0.2.1")
	state := func() string {
		used := 0
		for range v.LastUsed() {
			used++
		}
		return fmt.Sprint(used, len(v.keys.warm.ring))
	}
	for range 3 {
		who, err := v.JudgeKey([]byte(good.Reveal()), from, now)
		if err != nil || who.Principal.ID != "key:ci" || who.KeyID != "ci" || who.Method != MethodAPIKey {
			t.Fatalf("%+v %v", who, err)
		}
		if _, err := v.JudgeKey([]byte(bad.Reveal()), from, now); gatehouse.CodeOf(err) != gatehouse.CodeInvalidCredential {
			t.Error(err)
		}
	}
	expect(t, "after judging", state(), "0 0")
	used, err := v.Key([]byte(good.Reveal()), from, now)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "after a use", state(), "1 1")
	judged, err := v.JudgeKey([]byte(good.Reveal()), from, now)
	if err != nil || judged != used {
		t.Errorf("%p %p %v", judged, used, err)
	}
}
