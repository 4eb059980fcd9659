package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// FollowerConfig is what a Follower is made of.
type FollowerConfig struct {
	Client *Client
	// Gateway names this data plane to the control plane.
	Gateway string
	// Apply brings an update live. It is called by one goroutine at a time.
	Apply func(gatehouse.Update) gatehouse.Outcome
	// Tell holds what the control plane may ask about a tenant here, by topic,
	// as health and metrics. They are called by many goroutines; a question of
	// another topic is not answered.
	Tell map[string]func(gatehouse.TenantID) (any, error)
	// Folder keeps the last two good snapshots; empty: nothing is kept.
	Folder string
	// Key encrypts them, 32 bytes; nil: they are checksummed only.
	Key []byte
	// Hold keeps the folder untouched until it is closed: another process
	// still writes there. Nil: it is this one's.
	Hold <-chan struct{}
	// Silence is how long the control plane may say nothing before it is
	// given up and called again. Default 15s, three of its heartbeats.
	Silence time.Duration
	// Log tells the operator of connections and of what is wrong.
	Log *slog.Logger
}

// DefaultSilence is the default of FollowerConfig.Silence.
const DefaultSilence = 15 * time.Second

// Follower keeps a data plane at the state of a control plane. Nothing that it
// does waits for the disk or for an answer of the control plane but the next
// update. Its methods are safe for concurrent use; Restore comes before Run.
type Follower struct {
	c      FollowerConfig
	writer *writer // nil: nothing is kept
	acks   *acks
	told   *answers

	mu      sync.Mutex
	changed uint64 // the last revision that changed something; guarded by mu
	status  Status // guarded by mu
	broken  error  // why nothing was restored; guarded by mu
}

// Status is where a Follower stands.
type Status struct {
	// Revision is that of the state that the data plane has, and Hash that of
	// the journal there.
	Revision uint64
	Hash     string
	// Connected says whether the control plane is being heard.
	Connected bool
	// Heard is when it was heard last; zero: never by this process.
	Heard time.Time
	// Restored is the revision that came from the disk; 0: none did.
	Restored uint64
	// Refused are the tenants that run in an earlier form.
	Refused []gatehouse.Refusal
	// Err is why there is no connection; nil while there is one.
	Err error
	// Kept is the last revision whose state is on the disk, and KeepErr why
	// that of later ones is not.
	Kept    uint64
	KeepErr error
}

// NewFollower returns a follower that has nothing yet.
func NewFollower(c FollowerConfig) (*Follower, error) {
	if c.Key != nil && len(c.Key) != 32 {
		return nil, fmt.Errorf("the key of snapshots has %d bytes, not 32", len(c.Key))
	}
	if c.Silence == 0 {
		c.Silence = DefaultSilence
	}
	f := &Follower{c: c, acks: newAcks(c.Client, c.Gateway), told: newAnswers(&c)}
	if c.Folder != "" {
		f.writer = newWriter(&disk{folder: c.Folder, key: c.Key, least: foldAfter, shared: c.Hold != nil}, c.Hold)
	}
	return f, nil
}

// Restore applies the newest snapshot on the disk that can be read. It is an
// error that there are some and none can be used: the data plane then has
// nothing until the control plane answers.
func (f *Follower) Restore() error {
	if f.writer == nil {
		return nil
	}
	began := time.Now()
	u, notes, err := f.writer.disk.load()
	read := time.Since(began)
	for _, note := range notes {
		f.c.Log.Error("snapshot damaged", "error", note)
	}
	if err != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.broken = err
		return err
	}
	if u.Revision == 0 {
		return nil
	}
	outcome := f.c.Apply(u)
	f.settle(&u, &outcome)
	f.c.Log.Info("state restored from the disk", "revision", u.Revision, "tenants", len(u.Tenants), "read", read.String(), "applied", (time.Since(began) - read).String())
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status.Restored, f.status.Kept = u.Revision, u.Revision
	if f.writer.disk.file == nil { // an older one: the disk begins anew
		f.status.Hash = ""
	}
	return nil
}

// Run follows the control plane until ctx ends, and returns nil then.
func (f *Follower) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer f.told.running.Wait()
	defer stop()
	wg.Go(func() { f.acks.run(ctx) })
	lost := make(chan struct{}, 1)
	if f.writer != nil {
		wg.Go(func() { f.writer.run(ctx, f.kept, lost) })
	}
	for attempt := 0; ; attempt++ {
		began := f.Status().Heard
		err := f.follow(ctx, lost)
		if ctx.Err() != nil {
			return nil
		}
		if f.Status().Heard.After(began) {
			attempt = 0
		}
		f.note(func(s *Status) { s.Connected, s.Err = false, err })
		f.c.Log.Warn("the control plane is not heard; serving on", "error", err, "revision", f.Status().Revision)
		if pause(ctx, backOff(attempt, 100*time.Millisecond, 5*time.Second)) != nil {
			return nil
		}
	}
}

var errSilent = errors.New("no sign of life")

// follow takes updates from one connection, until it ends with an error.
func (f *Follower) follow(ctx context.Context, lost <-chan struct{}) error {
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	silence := time.AfterFunc(f.c.Silence, func() { giveUp(fmt.Errorf("%w for %s", errSilent, f.c.Silence)) })
	defer silence.Stop()
	at := f.Status()
	query := url.Values{}
	if at.Revision > 0 {
		// Without the hash everything is told anew, as of this revision or later.
		query.Set("after", strconv.FormatUint(at.Revision, 10))
	}
	if at.Hash != "" {
		query.Set("hash", at.Hash)
	}
	// One attempt: Run has its own times between two.
	once := *f.c.Client
	once.retries = 0
	body, err := once.Open(ctx, Call{Operation: FollowUpdates, Query: query, Header: http.Header{"X-Gatehouse-Gateway": {f.c.Gateway}}})
	if err != nil {
		return err
	}
	defer body.Close()
	f.note(func(s *Status) { s.Connected, s.Err = true, nil })
	f.c.Log.Info("following the control plane", "control", f.c.Client.Server(), "after", at.Revision)
	stream := newStream(body)
	for {
		u, err := stream.next(func() {
			silence.Reset(f.c.Silence)
			f.note(func(s *Status) { s.Heard = time.Now() })
		}, func(q *Question) { f.told.give(ctx, q) })
		if err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return &gatehouse.Error{Code: gatehouse.CodeUnavailable, Message: "the stream of updates ended", Err: err}
		}
		if u != nil {
			// Applying many tenants takes its time; that is no silence.
			silence.Stop()
			f.take(u)
			silence.Reset(f.c.Silence)
		}
		select {
		case <-lost: // the disk wants to begin anew
			f.note(func(s *Status) { s.Hash = "" })
			return errors.New("the snapshot on the disk begins anew")
		default:
		}
	}
}

// take applies an update, and tells of it.
func (f *Follower) take(u *gatehouse.Update) {
	empty := isEmpty(u)
	outcome := f.c.Apply(*u)
	f.settle(u, &outcome)
	for _, r := range outcome.Refused {
		f.c.Log.Warn("tenant refused; it runs on as it was", "tenant", r.Tenant, "revision", u.Revision, "reason", r.Faults.Error())
	}
	if u.Full {
		f.c.Log.Info("state taken over", "revision", u.Revision, "tenants", len(u.Tenants))
	}
	f.acks.add(outcome)
	if f.writer != nil && !empty {
		f.writer.add(applied{*u, refusedIn(&outcome)})
	}
}

// isEmpty reports whether u changes nothing but the revision: what happened was
// no business of data planes. It is not written to the disk.
func isEmpty(u *gatehouse.Update) bool {
	return !u.Full && len(u.Plans)+len(u.Tenants)+len(u.Keys)+len(u.RemovedPlans)+len(u.RemovedTenants) == 0
}

// applied is an update with the tenants that were refused.
type applied struct {
	update  gatehouse.Update
	refused map[gatehouse.TenantID]bool
}

func refusedIn(o *gatehouse.Outcome) map[gatehouse.TenantID]bool {
	if len(o.Refused) == 0 {
		return nil
	}
	m := map[gatehouse.TenantID]bool{}
	for _, r := range o.Refused {
		m[r.Tenant] = true
	}
	return m
}

// settle notes where the data plane stands after an update.
func (f *Follower) settle(u *gatehouse.Update, o *gatehouse.Outcome) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.broken = nil
	s := &f.status
	s.Revision, s.Hash = u.Revision, u.Hash
	switch {
	case !isEmpty(u):
		f.changed = u.Revision
	case s.Kept >= f.changed && s.KeepErr == nil && s.Kept > 0:
		s.Kept = u.Revision
	}
	if len(s.Refused) > 0 || len(o.Refused) > 0 {
		s.Refused = mergeRefusals(s.Refused, o, u.Full)
	}
}

func (f *Follower) kept(revision uint64, err error) {
	f.note(func(s *Status) {
		if s.KeepErr = err; err == nil {
			s.Kept = revision
			if revision >= f.changed { // what came behind it changed nothing
				s.Kept = max(revision, s.Revision)
			}
		}
	})
	if err != nil {
		f.c.Log.Error("the state is not kept on the disk", "error", err)
	}
}

func (f *Follower) note(change func(*Status)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.status)
}

// Status returns where the follower stands.
func (f *Follower) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.status
}

// Staleness is how long ago the control plane was heard last: what the data
// plane does may be older than that. Before it was heard at all it counts from
// since, the start of the process.
func (f *Follower) Staleness(since, now time.Time) time.Duration {
	if heard := f.Status().Heard; heard.After(since) {
		since = heard
	}
	return max(now.Sub(since), 0)
}

// Ready says why the data plane has nothing to serve; nil where it has.
func (f *Follower) Ready() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.status.Revision > 0 {
		return nil
	}
	err := f.status.Err
	if err == nil {
		err = errors.New("the control plane has not answered yet")
	}
	if f.broken != nil {
		return fmt.Errorf("no configuration: %w; and %w", f.broken, err)
	}
	return fmt.Errorf("no configuration: %w", err)
}
