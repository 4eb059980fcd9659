package identity

import (
	"crypto/sha256"
	"errors"
	"sync"
	"time"

	gatehouse "github.com/gatehouse-gateway/gatehouse"
)

// maxReplays bounds the proofs that one tenant has remembered at a time, in
// about 30 MiB. A proof stays for two to four minutes, so this is more than
// 4,000 proofs a second; each costs its sender a signature and the gateway a
// verification, which bounds all tenants together by the processors.
const maxReplays = 1 << 20

// replays remembers the proofs of one tenant that were used, until their iat
// has left the window. Each data plane has its own: a proof may pass once at
// each of them.
type replays struct {
	mu    sync.Mutex                      // guards what follows
	by    map[int64]map[[16]byte]struct{} // by the minute of iat; nil before the first
	count int                             // in all minutes
	limit int
}

var (
	errReplay      = errors.New("a proof with this jti was used before")
	errReplaysFull = errors.New("no room to remember another proof; it would pass a second time")
)

// use takes note of a proof and refuses one that is noted already. The key is
// part of the name, so that nobody can use up the jti of others.
//
// When there is no room the proof is refused, as one that is not remembered
// could be replayed. The client has done nothing wrong: it is told to come
// again later.
func (r *replays) use(p proven) error {
	text := make([]byte, 0, sha256.Size+maxJTI)
	hash := sha256.Sum256(append(append(text, p.thumbprint[:]...), p.jti...))
	name := [16]byte(hash[:16])
	minute := p.at.Unix() / 60
	r.mu.Lock()
	defer r.mu.Unlock()
	used := r.by[minute]
	if used == nil {
		r.forget(p.now)
	}
	if _, ok := used[name]; ok {
		return badProof(errReplay)
	}
	if r.count >= r.limit {
		return unavailable(errReplaysFull)
	}
	if r.by == nil {
		r.by = map[int64]map[[16]byte]struct{}{}
	}
	if used == nil {
		used = map[[16]byte]struct{}{}
		r.by[minute] = used
	}
	used[name] = struct{}{}
	r.count++
	return nil
}

// forget drops the minutes that no proof can be of any more. A minute is kept
// beyond the window, for a request that began before another and comes here
// after it.
func (r *replays) forget(now time.Time) {
	oldest := now.Add(-proofWindow-time.Minute).Unix() / 60
	for minute, used := range r.by {
		if minute < oldest {
			r.count -= len(used)
			delete(r.by, minute)
		}
	}
}

// unavailable is the refusal of a credential that may be good.
func unavailable(cause error) error {
	return &gatehouse.Error{Code: gatehouse.CodeIdentityUnavailable, Message: "the credential cannot be checked at the moment", Err: cause}
}
