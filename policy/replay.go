package policy

import (
	"iter"
	"slices"
	"time"
)

// Change is a request that one policy decided, or would decide, unlike the
// other.
type Change struct {
	// Entry is the request.
	Entry *Entry `json:"entry"`
	// Old is what was decided and New what the other policy says. Where the
	// log left out what Old says in words, New is without.
	Old Decision `json:"old"`
	New Decision `json:"new"`
}

// Replayed is what became of the entries of a log under another policy.
type Replayed struct {
	// Entries are all; Decided those of which the policy reads nothing that
	// was removed. The others say nothing: NotReplayable.
	Entries       int `json:"entries"`
	Decided       int `json:"decided"`
	NotReplayable int `json:"not_replayable"`
	// Changed are those decided unlike in the log; of these were, and would be
	// no longer, allowed or denied Denied and Allowed; the others differ in
	// status, reason or obligations.
	Changed int `json:"changed"`
	Allowed int `json:"allowed"`
	Denied  int `json:"denied"`
	// Failed are those that the policy failed on: they are among Changed,
	// unless they had failed before.
	Failed int `json:"failed"`
	// Changes are the first MaxChanges that changed.
	Changes []Change `json:"changes"`
	// Took is the time of it all.
	Took time.Duration `json:"took"`
}

// MaxChanges bounds Replayed.Changes.
const MaxChanges = 100

// Replay decides the requests of entries by draft. Draft spends its own budget
// and may be set aside for a while: it should not be the one that requests are
// waiting for.
func Replay(draft *Policy, entries iter.Seq[*Entry]) Replayed {
	start := time.Now()
	var r Replayed
	for e := range entries {
		r.Entries++
		d, ok := e.decide(draft)
		if !ok {
			r.NotReplayable++
			continue
		}
		r.Decided++
		if d.Err != nil {
			r.Failed++
		}
		now := e.comparable(d)
		if now.Equal(e.Decision) {
			continue
		}
		r.Changed++
		switch {
		case now.Allow && !e.Decision.Allow:
			r.Allowed++
		case !now.Allow && e.Decision.Allow:
			r.Denied++
		}
		if len(r.Changes) < MaxChanges {
			r.Changes = append(r.Changes, Change{e, e.Decision, now})
		}
	}
	r.Took = time.Since(start)
	return r
}

// comparable removes from d what was removed from the entry's decision. Who
// said it is no difference.
func (e *Entry) comparable(d Decision) Decision {
	d = d.redact(e.tainted, func(header string) bool {
		o := e.Decision.Obligations
		return o != nil && slices.Contains(o.Set, Field{header, ""})
	})
	d.By = e.Decision.By
	return d
}
