package policy

import (
	"fmt"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
)

// A policy that reads the time may declare how coarse the time may be, by a
// constant rule in its package or in one above it:
//
//	cache_seconds := 60
//
// Its modules are then shown the beginning of the bucket that the request's
// instant falls in, as input.time and by time.now_ns, and decisions are kept
// by that. A kept decision is what a fresh one in the same bucket is, since
// nothing finer is ever seen. If several packages that read the time declare
// different buckets, the smallest counts for all; if one declares none, time is
// exact and nothing is kept.

// bucketRule is the rule that declares a bucket.
const bucketRule = ast.Var("cache_seconds")

// maxBucket bounds a bucket, in seconds.
const maxBucket = 24 * 60 * 60

// buckets are the declared buckets, in seconds, by package.
type buckets map[string]int

// buckets collects the declarations, and reports those that are none.
func (s *sources) buckets() buckets {
	found := buckets{}
	for _, mod := range s.parsed {
		for _, r := range mod.Rules {
			if ref := r.Head.Ref(); !ref[0].Value.(ast.Var).Equal(bucketRule) {
				continue
			}
			pkg := mod.Package.Path.String()
			seconds, ok := bucketSeconds(r)
			if _, twice := found[pkg]; !ok || twice {
				s.faultAt(r.Loc(), fmt.Sprintf("cache_seconds is not one whole number from 1 to %d", maxBucket), "declare it once in its package: cache_seconds := 60")
			}
			found[pkg] = seconds
		}
	}
	return found
}

func bucketSeconds(r *ast.Rule) (int, bool) {
	if len(r.Head.Ref()) != 1 || len(r.Head.Args) > 0 || r.Head.Key != nil || r.Default || r.Else != nil || r.Head.Value == nil ||
		len(r.Body) != 1 || !r.Body[0].Equal(ast.NewExpr(ast.BooleanTerm(true))) {
		return 0, false
	}
	n, ok := r.Head.Value.Value.(ast.Number)
	if !ok {
		return 0, false
	}
	seconds, ok := n.Int()
	return seconds, ok && 1 <= seconds && seconds <= maxBucket
}

// of returns the bucket for a rule: that of its package, or else of the
// nearest one above; 0 if none is declared.
func (bs buckets) of(r *ast.Rule) int {
	if r == nil || r.Module == nil {
		return 0
	}
	for pkg := r.Module.Package.Path; len(pkg) > 1; pkg = pkg[:len(pkg)-1] {
		if seconds, ok := bs[pkg.String()]; ok {
			return seconds
		}
	}
	return 0
}

// now is the instant that a policy is shown.
func (r *readSet) now(in *Input) time.Time {
	if r.bucket == 0 {
		return in.Time
	}
	return time.Unix(0, floor(in.Time, r.bucket))
}

// floor returns the beginning, in nanoseconds since 1970, of the bucket that t
// falls in; t itself where seconds is 0.
func floor(t time.Time, seconds int) int64 {
	ns := t.UnixNano()
	if seconds == 0 {
		return ns
	}
	size := int64(seconds) * int64(time.Second)
	into := ns % size
	if into < 0 {
		into += size
	}
	return ns - into
}
