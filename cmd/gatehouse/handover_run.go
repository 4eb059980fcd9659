package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// warmLimit bounds the wait for issuers' keys: one that does not answer must
// not keep the old process.
const warmLimit = 5 * time.Second

// succeed makes this process the one that may serve, where another does so
// far. After an error the other goes on.
func (p *process) succeed(ctx context.Context) error {
	if p.before == nil {
		return nil
	}
	// The documents may have changed since assemble read them.
	if err := p.gateway.Ready(); err != nil {
		return fmt.Errorf("take over: %w", err)
	}
	warming, cancel := context.WithTimeout(ctx, warmLimit)
	p.gateway.Warm(warming)
	cancel()
	err := p.before.succeed(ctx)
	if errors.Is(err, errGone) {
		// It has ended by itself if it has left the folder too.
		limit, cancel := context.WithTimeout(ctx, claimLimit)
		defer cancel()
		if lock, e := awaitLock(limit, p.cfg.Data); e == nil {
			p.lock, err = lock, nil
		}
	}
	if err != nil {
		return fmt.Errorf("take over: %w", err)
	}
	p.before.close()
	p.log.Info("took over", "process", p.before.process)
	return nil
}

// own takes the data folder and its counts when the process before has left
// it. This process then can be taken over itself, until ctx ends.
func (p *process) own(ctx context.Context) {
	if p.before != nil && !p.adopt(ctx) {
		return
	}
	close(p.owned)
	p.handover.run(ctx)
}

// adopt reports whether the counts are this process's before ctx ends. Until
// they are, Health of the meter tells what is wrong with them.
func (p *process) adopt(ctx context.Context) bool {
	for told := false; ; told = true {
		var err error
		if p.lock == nil {
			p.lock, err = awaitLock(ctx, p.cfg.Data)
		}
		if err == nil {
			err = p.meter.Adopt()
		}
		if err == nil {
			p.log.Info("counters taken over", "data", absolute(p.cfg.Data))
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		if !told {
			p.log.Error("counters are not taken over; trying on", "error", err)
		}
		if pause(ctx, time.Second) != nil {
			return false
		}
	}
}

// cede leaves the control API to a process that has taken over, and closes
// ceded when this one answers there no more: it must not tell anyone that it
// drains while the other is ready.
func (p *process) cede(ctx context.Context, ceded chan<- struct{}) {
	select {
	case <-p.handover.taken:
	case <-ctx.Done():
		return
	}
	p.gateway.Succeeded()
	defer close(ceded)
	// Shutdown of net/http drops a request that it reads after it has begun.
	// So callers go first: nobody new, and an answer is the last one.
	_ = p.control.Close() // the socket stays open in the other process
	<-p.admitted
	p.api.SetKeepAlivesEnabled(false)
	p.api.leave()
	limit := time.Now().Add(time.Second)
	for p.callers.Load() > 0 && time.Now().Before(limit) && pause(ctx, time.Millisecond) == nil {
	}
	p.closeAPI(ctx)
}

func (p *process) countCallers(_ net.Conn, s http.ConnState) {
	switch s {
	case http.StateNew:
		p.callers.Add(1)
	case http.StateClosed, http.StateHijacked:
		p.callers.Add(-1)
	}
}

// awaitFolder gives this process, when it ends, the time to take over the
// counts of the process before, which may still be draining. If it cannot,
// the next process takes over both.
func (p *process) awaitFolder(ctx context.Context) {
	if p.before == nil || closed(p.owned) {
		return
	}
	limit, cancel := p.patience(ctx)
	defer cancel()
	select {
	case <-p.owned:
	case <-limit.Done():
		p.log.Warn("counters are left to the next process", "process", p.before.process, "data", p.cfg.Data)
	}
}
