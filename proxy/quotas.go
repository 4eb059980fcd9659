package proxy

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/ratelimit"
)

// SaveQuotas writes the counts of all quotas that this process holds, a JSON
// document a line, for LoadQuotas.
func (g *Gateway) SaveQuotas(w io.Writer, now time.Time) error {
	g.mu.Lock()
	slots := slices.Collect(maps.Values(g.slots))
	waiting := maps.Clone(g.quotas)
	g.mu.Unlock()
	for _, s := range slots {
		if err := s.limits.Save(w, now); err != nil {
			return fmt.Errorf("tenant %s: %w", s.id, err)
		}
	}
	out := json.NewEncoder(w)
	for _, states := range waiting { // of tenants that are not served yet
		for _, q := range states {
			if err := out.Encode(q); err != nil {
				return fmt.Errorf("write quota %s: %w", q.Key, err)
			}
		}
	}
	return nil
}

// LoadQuotas takes back what SaveQuotas wrote, for tenants that are not served
// yet: it belongs before the first Apply. Lines that cannot be read are left
// out; the error is about the first of them.
func (g *Gateway) LoadQuotas(r io.Reader) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64<<10), 1<<20)
	var bad error
	all := map[gatehouse.TenantID][]ratelimit.QuotaState{}
	for n := 1; lines.Scan(); n++ {
		var q ratelimit.QuotaState
		err := json.Unmarshal(lines.Bytes(), &q)
		id, ok := strings.CutPrefix(q.Key, "gh:{")
		id, _, closed := strings.Cut(id, "}:")
		if err == nil && (!ok || !closed) {
			err = fmt.Errorf("key %q is of no tenant", q.Key)
		}
		if err != nil {
			if bad == nil {
				bad = fmt.Errorf("line %d: %w", n, err)
			}
			continue
		}
		all[gatehouse.TenantID(id)] = append(all[gatehouse.TenantID(id)], q)
	}
	if err := lines.Err(); err != nil && bad == nil {
		bad = err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.quotas = all
	return bad
}

// recall gives the limits of a tenant that begins to be served the counts that
// it had before a restart. It is called with mu held.
func (g *Gateway) recall(id gatehouse.TenantID, limits *ratelimit.Local, now time.Time) {
	if states := g.quotas[id]; states != nil {
		limits.Restore(now, states)
		delete(g.quotas, id)
	}
}
