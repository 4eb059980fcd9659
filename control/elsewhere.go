package control

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"slices"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"golang.org/x/sync/singleflight"
)

// elsewhere is what is asked of another control plane.
type elsewhere struct {
	Topic  Topic              `json:"topic"`
	Tenant gatehouse.TenantID `json:"tenant"`
}

// topicGateways asks another control plane for the status of its data planes.
const topicGateways = "gateways"

// told are the answers of other control planes; whole where all of them have.
type told struct {
	texts [][]byte
	whole bool
}

// away asks the other control planes of the store about the data planes that
// follow them. Who asks the same meanwhile shares the question, and the told
// that it comes to.
func (g *Gateways) away(ctx context.Context, q elsewhere) <-chan singleflight.Result {
	return g.shared.DoChan(string(q.Topic)+"\n"+string(q.Tenant), func() (any, error) {
		if g.peers == nil {
			return told{whole: true}, nil
		}
		// Who asked first may go before the others.
		ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), answerLimit+wayLimit)
		defer stop()
		question, err := json.Marshal(q)
		if err != nil {
			return told{}, err
		}
		texts, err := g.peers.Ask(ctx, question)
		return told{texts, err == nil}, nil
	})
}

// heard are the things that the answers list, and whether they are all. One
// that cannot be read, as it is of another release, counts as not given.
func heard[T any](ctx context.Context, away <-chan singleflight.Result) (all []T, whole bool) {
	var from told
	select {
	case shared := <-away:
		from, _ = shared.Val.(told) // it is one
	case <-ctx.Done():
	}
	whole = from.whole
	for _, text := range from.texts {
		var some []T
		if json.Unmarshal(text, &some) != nil {
			whole = false
			continue
		}
		all = append(all, some...)
	}
	return all, whole
}

// tell answers what another control plane asks. The data plane of this process
// it tells by the name that this control plane has.
func (g *Gateways) tell(ctx context.Context, question []byte) ([]byte, error) {
	var q elsewhere
	if err := json.Unmarshal(question, &q); err != nil {
		return nil, err
	}
	ctx, stop := context.WithTimeout(ctx, answerLimit)
	defer stop()
	if q.Topic == topicGateways {
		all := g.List()
		for i := range all {
			if all[i].ID == LocalGateway {
				all[i].ID = localAt + g.name
			}
		}
		return fit(all, GatewayStatus.shorter, journal.MaxTelling)
	}
	all := g.here(ctx, q.Topic, q.Tenant)
	for i := range all {
		if all[i].Gateway == LocalGateway {
			all[i].Gateway = localAt + g.name
		}
	}
	return fit(all, reply.shorter, journal.MaxTelling)
}

// fit encodes what is to be told in at most limit bytes: of what is too much
// together the longest are told in their shorter forms.
func fit[T any](all []T, shorter func(T) T, limit int) ([]byte, error) {
	texts, order, size := make([]json.RawMessage, len(all)), make([]int, len(all)), 2
	for i := range all {
		var err error
		if texts[i], err = json.Marshal(all[i]); err != nil {
			return nil, err
		}
		order[i], size = i, size+len(texts[i])+1
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(len(texts[b]), len(texts[a])) })
	for _, i := range order {
		if size <= limit {
			break
		}
		short, err := json.Marshal(shorter(all[i]))
		if err != nil {
			return nil, err
		}
		size += len(short) - len(texts[i])
		texts[i] = short
	}
	return json.Marshal(texts)
}

// Run answers what other control planes of the store ask, until ctx ends. The
// log has when they cannot be heard.
func (g *Gateways) Run(ctx context.Context, log *slog.Logger) {
	if g.peers != nil {
		g.peers.Run(ctx, log, g.tell)
	}
}
