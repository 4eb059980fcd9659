package edge

import (
	"strings"
	"time"
)

// Ends returns when the certificate that a host gets ends, the last of several;
// false where there is none.
func (t *TLS) Ends(host string) (time.Time, bool) {
	exact, wild := t.shelf.Load().candidates(strings.ToLower(host))
	var last time.Time
	for _, p := range append(exact[:len(exact):len(exact)], wild...) {
		if end := p.certificate.Leaf.NotAfter; end.After(last) {
			last = end
		}
	}
	return last, !last.IsZero()
}
