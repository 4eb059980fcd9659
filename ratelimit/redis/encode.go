package redis

import (
	"context"
	"crypto/sha1"
	_ "embed" // the scripts
	"encoding/hex"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gatehouse-gateway/gatehouse/ratelimit"
)

const (
	// placeTime is how long a place is kept that nobody renews: those of a
	// gateway that was killed come back after it. Renewals come every 5s.
	placeTime = 20 * time.Second
	userTime  = time.Minute
	// exactUsers is how many users are told apart; more are estimated.
	exactUsers = 10_000
)

//go:embed take.lua
var takeSource string

//go:embed keep.lua
var keepSource string

//go:embed beat.lua
var beatSource string

// sha returns the name that Redis gives a script.
func sha(source string) string {
	sum := sha1.Sum([]byte(source))
	return hex.EncodeToString(sum[:])
}

// runsTake reports whether a is for take.lua.
func runsTake(a *ratelimit.Ask) bool {
	return a.Action == ratelimit.Take || a.Action == ratelimit.TopUp
}

// once is a command that is never repeated by the client: it charges, and
// where its answer is lost it is not known whether it did.
type once struct{ *redis.Cmd }

// NoRetry is asked by the client, of one node and of a Cluster.
func (once) NoRetry() bool { return true }

// eval adds a script to p: by name, or whole where Redis does not have it.
func (s *script) eval(ctx context.Context, p redis.Pipeliner, whole bool, keys []string, args []any) *redis.Cmd {
	line := make([]any, 0, 3+len(keys)+len(args))
	if whole {
		line = append(line, "eval", s.source, len(keys))
	} else {
		line = append(line, "evalsha", s.sha, len(keys))
	}
	for _, k := range keys {
		line = append(line, k)
	}
	cmd := redis.NewCmd(ctx, append(line, args...)...)
	cmd.SetFirstKeyPos(3)
	_ = p.Process(ctx, once{cmd}) // it is sent with the others, and has its error
	return cmd
}

// encode adds the command of calls that ask for the same to p.
func (s *Store) encode(ctx context.Context, p redis.Pipeliner, calls []*ratelimit.Call, whole bool) *redis.Cmd {
	c := calls[0]
	if !runsTake(&c.Asks[0]) {
		return s.encodeKeep(ctx, p, &c.Asks[0], whole)
	}
	keys := make([]string, len(c.Asks))
	args := make([]any, 1, 1+14*len(c.Asks))
	args[0] = len(calls)
	at := time.UnixMicro(time.Now().UnixMicro() + s.skew.Load())
	for i := range c.Asks {
		a := &c.Asks[i]
		if keys[i] = a.Key; a.Kind == ratelimit.Rate {
			keys[i] += rateSuffix
		}
		args = s.terms(args, a, at)
	}
	return s.take.eval(ctx, p, whole, keys, args)
}

// rateSuffix keeps a rate and a quota of one name apart, where gateways differ
// on which of them it is.
const rateSuffix = "~r"

// terms appends the fourteen values of one count.
func (s *Store) terms(args []any, a *ratelimit.Ask, at time.Time) []any {
	cost, ahead, debt, serial := a.Cost, a.Ahead, a.Debt, ""
	switch {
	case a.Action == ratelimit.TopUp:
		cost, ahead, debt = 0, 0, -a.Cost
		if a.Once != "" {
			serial = "+" + a.Once
		}
	case a.Serial != 0:
		serial = s.gateway + ":" + strconv.FormatUint(a.Serial, 10)
	}
	switch t := &a.Terms; a.Kind {
	case ratelimit.Rate:
		return append(args, "r", cost, ahead, debt, 0, t.Count, t.Per, t.Burst, a.Age, 0, 0, 0, "", serial)
	case ratelimit.Quota:
		var start, end, next int64
		if t.Length == 0 {
			start, end, next = a.Window(at)
		}
		forced := 0
		if a.Forced {
			forced = 1
		}
		return append(args, "q", cost, ahead, debt, a.Start, a.Quota, forced, t.Length, start, end, next, a.Age, t.Name, serial)
	case ratelimit.Concurrency:
		return append(args, "c", cost, ahead, 0, 0, a.Quota, a.ID, placeTime.Microseconds(), 0, 0, 0, 0, s.gateway, "")
	default:
		return append(args, "u", cost, 0, 0, 0, a.Quota, userTime.Microseconds(), exactUsers, 0, 0, 0, 0, a.User[:], "")
	}
}

// encodeKeep adds the command that gives back or keeps members of a set.
func (s *Store) encodeKeep(ctx context.Context, p redis.Pipeliner, a *ratelimit.Ask, whole bool) *redis.Cmd {
	var members []any
	if a.Kind == ratelimit.Users {
		for i := 0; i+1 < len(a.IDs); i += 2 {
			members = append(members, ratelimit.UserBytes(a.IDs[i], a.IDs[i+1]))
		}
	} else {
		for _, id := range a.IDs {
			members = append(members, s.gateway+":"+strconv.FormatUint(id, 10))
		}
	}
	if a.Action == ratelimit.Return {
		return p.Do(ctx, append([]any{"ZREM", a.Key}, members...)...)
	}
	ahead, ttl, sketch := int64(0), userTime, 0
	if a.Kind == ratelimit.Concurrency {
		ahead, ttl = placeTime.Microseconds(), placeTime
	} else if a.Quota > exactUsers {
		sketch = 1
	}
	return s.keep.eval(ctx, p, whole, []string{a.Key}, append([]any{ahead, ttl.Milliseconds() + 1000, sketch}, members...))
}

// alike reports whether b asks for what a asks for, so that one script run
// charges both, or the first of them alone.
func alike(a, b *ratelimit.Call) bool {
	if len(a.Asks) != len(b.Asks) {
		return false
	}
	for i := range a.Asks {
		x, y := &a.Asks[i], &b.Asks[i]
		if x.Action != ratelimit.Take || y.Action != ratelimit.Take || x.Kind.Capacity() || x.Cost < 1 ||
			x.Kind != y.Kind || x.Key != y.Key || x.Cost != y.Cost || x.Terms != y.Terms || x.Quota != y.Quota ||
			x.Forced != y.Forced || x.Debt != y.Debt || x.Serial != y.Serial || x.Start != y.Start {
			return false
		}
	}
	return true
}
