package ratelimit

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash/maphash"
	"strings"

	"github.com/gatehouse-gateway/gatehouse"
)

// digest stands for a value in this process: 128 bits, keyed, so that no
// caller can find a value that shares another's count.
type digest [2]uint64

// digestUser returns the digest of a principal.
func (l *Local) digestUser(p []byte) digest {
	return digest{maphash.Bytes(l.seeds[0], p), maphash.Bytes(l.seeds[1], p)}
}

// digests appends the digest of the values of each selector list of s. The
// bits of gone are the lists that the request lacks a value of.
func (s *Stack) digests(dst []digest, r *Request) (_ []digest, gone uint64) {
	for i, by := range s.selects {
		var d digest
		for _, sel := range by {
			// Odd factors keep the order of the selectors.
			d[0] *= 0x9e3779b97f4a7c15
			d[1] *= 0xd1342543de82ef95
			v, ok := value(r.Values, sel)
			if !ok {
				gone |= 1 << i
				d[0]++ // as if it were the hash of no value at all
				continue
			}
			h := s.local.digestUser(v)
			d[0] += h[0]
			d[1] += h[1]
		}
		dst = append(dst, d)
	}
	return dst, gone
}

func value(v Values, s gatehouse.Selector) ([]byte, bool) {
	if v == nil {
		return nil, false
	}
	return v.Value(s)
}

// stableSum returns the by-value-digest of the key grammar: the same in every
// process and at every time. It is the first half of SHA-256 over, for each
// selector, its text, 0, whether there is a value, and its length and bytes.
func stableSum(by []gatehouse.Selector, v Values) string {
	h := sha256.New()
	var head [9]byte
	for _, sel := range by {
		val, ok := value(v, sel)
		head[0] = 0
		if ok {
			head[0] = 1
		}
		binary.BigEndian.PutUint64(head[1:], uint64(len(val)))
		h.Write([]byte(sel.Kind + ":" + sel.Name + "\x00"))
		h.Write(head[:])
		h.Write(val)
	}
	return hex.EncodeToString(h.Sum(nil)[:sha256.Size/2])
}

// stableUser returns the digest of a principal that is the same everywhere.
func stableUser(p []byte) (d [16]byte) {
	sum := sha256.Sum256(p)
	copy(d[:], sum[:])
	return d
}

// sumPair returns d as two numbers.
func sumPair(d [16]byte) [2]uint64 {
	return [2]uint64{binary.BigEndian.Uint64(d[:8]), binary.BigEndian.Uint64(d[8:])}
}

// UserBytes returns the digest of a user that two of Ask.IDs stand for.
func UserBytes(a, b uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(make([]byte, 0, 16), a), b)
}

func selectorText(by []gatehouse.Selector) string {
	var b strings.Builder
	for _, s := range by {
		b.WriteString(s.Kind + ":" + s.Name + "\x00")
	}
	return b.String()
}

// nameOf returns gh:{tenant}:limit-name, the one place where keys are made.
// The limit's name is unique within its scope only, so that the scope stands
// before it: plan/NAME, tenant/NAME or route/ROUTE/NAME. The bounds without a
// name of the document stand after # instead of the last /.
func (l *Local) nameOf(f *Limit) string {
	scope, sign := string(f.Scope), "/"
	if f.Route != "" {
		scope += "/" + string(f.Route)
	}
	if f.Kind.Capacity() {
		sign = "#"
	}
	return "gh:{" + string(l.tenant) + "}:" + scope + sign + f.Name
}
