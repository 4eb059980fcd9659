package proxy

import (
	"fmt"

	"github.com/gatehouse-gateway/gatehouse"
)

// KeysUsed lists the API keys of a tenant that were used, and when.
func (g *Gateway) KeysUsed(id gatehouse.TenantID) (list []string) {
	_, t, err := g.running(id)
	if err != nil {
		return nil
	}
	for key, at := range t.verifier.LastUsed() {
		list = append(list, fmt.Sprint(key, " ", at.Unix()))
	}
	return list
}
