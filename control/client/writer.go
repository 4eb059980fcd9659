package client

import (
	"context"
	"errors"
	"sync"
	"time"
)

// writer takes applied updates to the disk, behind the back of who applies.
type writer struct {
	disk *disk           // belongs to run, and before it to Restore
	hold <-chan struct{} // nil, or closed when the disk may be written

	mu     sync.Mutex
	queue  []applied     // guarded by mu
	behind bool          // guarded by mu; updates were dropped: only a full one is of use
	news   chan struct{} // a value: the queue is not empty
}

// maxQueue bounds the updates that wait for the disk.
const maxQueue = 10_000

// anew is the time between two attempts to begin anew after the disk failed.
const anew = 30 * time.Second

func newWriter(d *disk, hold <-chan struct{}) *writer {
	return &writer{disk: d, hold: hold, news: make(chan struct{}, 1)}
}

// add queues an update. It does not wait.
func (w *writer) add(a applied) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if a.update.Full {
		w.queue, w.behind = w.queue[:0], false // what came before is in it
	}
	if w.behind {
		return
	}
	if len(w.queue) >= maxQueue {
		w.queue, w.behind = nil, true
	} else {
		w.queue = append(w.queue, a)
	}
	select {
	case w.news <- struct{}{}:
	default:
	}
}

func (w *writer) take() (queued []applied, behind bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	queued, w.queue = w.queue, nil
	return queued, w.behind
}

var errBehind = errors.New("the disk is too slow")

// run writes until ctx ends, and what is queued then. tell is told of each
// write. A value in lost asks for a full update.
func (w *writer) run(ctx context.Context, tell func(revision uint64, err error), lost chan<- struct{}) {
	defer w.disk.close()
	if w.hold != nil {
		select {
		case <-w.hold:
		case <-ctx.Done():
			return
		}
	}
	retry := time.NewTimer(anew)
	retry.Stop()
	for {
		ended := false
		select {
		case <-ctx.Done():
			ended = true
		case <-retry.C:
			select {
			case lost <- struct{}{}:
			default:
			}
		case <-w.news:
		}
		queued, behind := w.take()
		var err error
		switch {
		case behind:
			err = errBehind
		case len(queued) > 0:
			err = w.disk.keep(queued)
		}
		if err != nil {
			w.mu.Lock()
			w.queue, w.behind = nil, !hasFull(w.queue)
			w.mu.Unlock()
			retry.Reset(anew)
			if errors.Is(err, errNoBase) { // nothing is wrong: it begins
				retry.Reset(0)
				err = nil
			}
		}
		if err != nil {
			tell(0, err)
		} else if len(queued) > 0 && w.disk.file != nil {
			tell(queued[len(queued)-1].update.Revision, nil)
		}
		if ended {
			return
		}
	}
}

func hasFull(queue []applied) bool {
	for i := range queue {
		if queue[i].update.Full {
			return true
		}
	}
	return false
}
