package control

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/gatehouse-gateway/gatehouse"
)

// GatewayList is the status of data planes.
type GatewayList struct {
	// Items are the data planes by id.
	Items []GatewayStatus `json:"items"`
	// Incomplete says that another control plane, which shares the store, has
	// not told of the data planes that follow it.
	Incomplete bool `json:"incomplete,omitempty"`
}

// All returns the status of the data planes that follow this control plane, or
// another one of the store, by id. One that followed several is told of by the
// one that it follows now, or followed last. It takes three seconds at most.
func (g *Gateways) All(ctx context.Context) GatewayList {
	away := g.away(ctx, elsewhere{Topic: topicGateways})
	there, whole := heard[GatewayStatus](ctx, away)
	all := append(g.List(), there...)
	slices.SortStableFunc(all, func(a, b GatewayStatus) int {
		first := 0
		if a.Connected != b.Connected {
			if first = 1; a.Connected {
				first = -1
			}
		}
		return cmp.Or(strings.Compare(a.ID, b.ID), first, b.Since.Compare(a.Since))
	})
	all = slices.CompactFunc(all, func(a, b GatewayStatus) bool {
		return a.ID == b.ID && !strings.HasPrefix(a.ID, localAt) // of those each process has one
	})
	return GatewayList{all, !whole}
}

// Find returns the status of one of All.
func (g *Gateways) Find(ctx context.Context, id string) (GatewayStatus, error) {
	here, err := g.Gateway(id)
	if err == nil && here.Connected {
		return here, nil
	}
	all := g.All(ctx)
	for i := range all.Items {
		if all.Items[i].ID == id {
			return all.Items[i], nil
		}
	}
	if all.Incomplete {
		return GatewayStatus{}, &gatehouse.Error{Code: gatehouse.CodeUnavailable, Message: "another control plane, which it may follow, has not answered"}
	}
	return GatewayStatus{}, err
}

// shorter leaves out refusals but the first.
func (s GatewayStatus) shorter() GatewayStatus {
	if n := len(s.Refused); n > 1 {
		s.Refused, s.RefusedMore = s.Refused[:1], n-1
	}
	return s
}
