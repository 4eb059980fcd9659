package proxy

import (
	"reflect"
	"slices"
	"testing"
)

// Release clears a whole passing at once, and every field beside it by name:
// whoever adds one must say there what becomes of it.
func TestReleaseKnowsEveryField(t *testing.T) {
	known := []string{
		"In", "Peer", "TLS", "secured", "ServerName", "RequestBody", "transport", "Status", "wire", "Fields", "Body", "Stream", "Length",
		"declared", "Close", "Tunnel", "resp", "id", "trace", "head", "scratch", "hooks", "passing",
	}
	var got []string
	for f := range reflect.TypeFor[Exchange]().Fields() {
		got = append(got, f.Name)
	}
	if !slices.Equal(got, known) {
		t.Errorf("the fields of Exchange are %v, and Release knows %v", got, known)
	}
}
