package metering

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Sink takes cells to where they are kept. Write is told each cell at least
// once, with its last value last or not: of two values of one cell the larger
// is the later. When it returns nil the batch is there for good. After an
// error, or when the process ends before it returns, the batch comes again. It
// may block until ctx ends; one goroutine at a time calls it. The batch is the
// sink's until it returns.
type Sink interface {
	// Name is the same over restarts, and of letters, digits, '-' and '_'.
	Name() string
	Write(ctx context.Context, b Batch) error
}

// SinkStatus says how far a sink is.
type SinkStatus struct {
	Name string
	// Cells and Batches have been written since the process began.
	Cells, Batches int64
	// Failures of Write since the process began, and the last; nil when the
	// last Write succeeded.
	Failures  int64
	LastError error
	// LastWrite is when Write last succeeded.
	LastWrite time.Time
	// Behind are bytes of log that the sink has still to get, and Since when
	// the oldest of them was written; zero if there are none.
	Behind int64
	Since  time.Time
	// Missing is set if the sink has been behind for longer than five minutes:
	// usage is safe, but bills and limits do not see it.
	Missing bool
}

const (
	batchCells = 5000 // in one Write, and one series more
	// heldCells bounds what is folded before it is sent, in series and
	// minutes: some 10 MB.
	heldCells  = 50_000
	perSecond  = 1000             // cells, on the average while the sink keeps up
	longest    = 15 * time.Second // between two rounds for that reason
	busy       = 20               // one part in so many of the time is spent shipping
	firstRetry = 500 * time.Millisecond
	lastRetry  = time.Minute
	restLimit  = 5 * time.Second // for the sinks at the end of the process
)

// shipper takes the logs of all epochs to one sink. It reads them where they
// are: what waits is on the disk and not in memory.
type shipper struct {
	m    *Meter
	sink Sink

	// Of the goroutine in run alone.
	logs map[Epoch]*source

	// mu guards the fields below.
	mu      sync.Mutex
	cursors map[Epoch]cursor
	status  SinkStatus
	missed  bool // it was told that usage is missing
}

// cursor is how far a sink has the log of an epoch. It is a hint: what comes
// twice is counted once.
type cursor struct {
	place
	// Done is set when the sink has all of it, and nothing will follow.
	Done bool `json:"done,omitempty"`
	// Generation is that of the segment.
	Generation uint64 `json:"generation,omitempty"`
	// Wall is when the last frame before it was written.
	Wall time.Time `json:"wall"`
}

// source is a log that is being read.
type source struct {
	id     identity
	dir    string
	reader walReader
	keys   map[uint32]SeriesKey
	from   place // what is before it has been sent
	// was is the generation of the segment that from is in, and now that of
	// the one that is being read: one that was compacted since is all news.
	was, now uint64
}

func newShippers(m *Meter) []*shipper {
	var list []*shipper
	for _, sink := range m.o.Sinks {
		list = append(list, &shipper{
			m: m, sink: sink, logs: map[Epoch]*source{}, cursors: map[Epoch]cursor{}, status: SinkStatus{Name: sink.Name()},
		})
	}
	return list
}

// run ships until ctx ends. While the sink keeps up it is busy for at most a
// twentieth of the time, and is told the same cell again the less often the more
// there are: a database takes 3 to 8 µs of this processor for each.
func (s *shipper) run(ctx context.Context) {
	defer s.close()
	retry := firstRetry
	for {
		began := time.Now()
		cells, err := s.round(ctx)
		wait := max(s.m.o.Flush, (busy-1)*time.Since(began), min(longest, time.Duration(cells)*time.Second/perSecond))
		if err != nil {
			wait = retry/2 + rand.N(retry) // of many gateways not all at once
			retry = min(2*retry, lastRetry)
		} else {
			retry = firstRetry
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (s *shipper) close() {
	for _, src := range s.logs {
		src.reader.close()
	}
	clear(s.logs)
}

// epochLog is the log of an epoch, and its end if it is being written.
type epochLog struct {
	meta  epochFile
	limit *place
}

// logs returns the logs that sinks need, the oldest first.
func (m *Meter) logs() []epochLog {
	var list []epochLog
	m.mu.Lock()
	for _, o := range m.old {
		list = append(list, epochLog{meta: o.meta})
	}
	m.mu.Unlock()
	slices.SortFunc(list, func(a, b epochLog) int { return a.meta.Epoch.compare(b.meta.Epoch) })
	if at := m.flush.written.Load(); at != nil {
		list = append(list, epochLog{m.flush.meta, at})
	}
	return list
}

// round sends what there is, and returns how many cells that were.
func (s *shipper) round(ctx context.Context) (cells int64, err error) {
	was := s.state(nil).Cells
	for _, l := range s.m.logs() {
		for more := true; more && ctx.Err() == nil; {
			if more, err = s.send(ctx, l); err != nil {
				s.failed(err)
				return 0, err
			}
		}
	}
	return s.state(nil).Cells - was, nil
}

func (s *shipper) failed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Failures++
	if s.status.LastError == nil {
		s.m.tell("a usage sink fails", s.status.Name+": "+err.Error())
	}
	s.status.LastError = err
}

// open returns the source of a log, at the place that the sink has.
func (s *shipper) open(l epochLog) (*source, error) {
	if src := s.logs[l.meta.Epoch]; src != nil {
		return src, nil
	}
	dir := s.m.flush.folder.dir(l.meta.Epoch)
	c, err := s.load(l.meta.Epoch, dir)
	if err != nil {
		return nil, err
	}
	src := &source{id: l.meta.identity, dir: dir, keys: map[uint32]SeriesKey{}, from: c.place, was: c.Generation}
	src.reader = walReader{dir: dir, nonce: l.meta.Epoch.Nonce}
	if c.Segment > 0 {
		// From the segment's beginning, for the names in it.
		err := src.reader.seek(place{c.Segment, 0})
		if errors.Is(err, fs.ErrNotExist) {
			src.reader.number, err = 0, nil
		}
		if err != nil {
			return nil, err
		}
	}
	s.logs[l.meta.Epoch] = src
	return src, nil
}

// send sends the next part of a log, and reports whether there is more.
func (s *shipper) send(ctx context.Context, l epochLog) (more bool, err error) {
	if s.has(l.meta.Epoch) {
		return false, nil
	}
	src, err := s.open(l)
	if err != nil {
		return false, err
	}
	src.reader.limit = l.limit
	f := newFold()
	f.keys = src.keys
	var seals []Seal
	cells := map[cellID]*values{}
	c := cursor{place: src.from, Generation: src.now}
	defer func() {
		if err != nil { // again from the last place
			src.reader.close()
			delete(s.logs, l.meta.Epoch)
		}
	}()
	for len(cells) < heldCells {
		begin := src.reader.at()
		fr, err := src.reader.next()
		if errors.Is(err, io.EOF) {
			c.Done = l.limit == nil
			break
		}
		if err != nil {
			return false, err
		}
		more = true
		c.place, c.Wall = src.reader.at(), fr.wall
		if fr.kind == frameSegment {
			src.now = readSegment(fr).generation
		}
		c.Generation = src.now
		news := !begin.before(src.from) || begin.Segment == src.from.Segment && src.now != src.was
		src.take(fr, news, cells, &seals)
	}
	if !more && !c.Done {
		return false, nil
	}
	if err := s.write(ctx, src, cells, seals); err != nil {
		return false, err
	}
	src.from = c.place
	return more && !c.Done, s.save(l.meta.Epoch, src.dir, c)
}

// take takes the names, and the cells and seals if they are news.
func (src *source) take(fr frame, news bool, cells map[cellID]*values, seals *[]Seal) {
	d := fr.rest
	switch fr.kind {
	case frameCells:
		for len(d.b) > 0 && !d.bad {
			e := d.cell()
			if e.key != nil {
				src.keys[e.id] = *e.key
			}
			if d.bad || !news {
				continue
			}
			id := cellID{e.id, e.window}
			if c := cells[id]; c != nil {
				c.raise(&e.values)
			} else {
				v := e.values
				cells[id] = &v
			}
		}
	case frameSeal:
		if w := uint32(d.uvarint()); news {
			*seals = append(*seals, Seal{Gateway: src.id.Gateway, Epoch: src.id.Epoch, Window: windowTime(w), Final: d.byte() == 1})
		}
	}
}

// write gives the sink the cells, in parts, with the seals in the last.
func (s *shipper) write(ctx context.Context, src *source, cells map[cellID]*values, seals []Seal) error {
	ids := make([]cellID, 0, len(cells))
	for id := range cells {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, cellID.compare)
	var b Batch
	flush := func() error {
		if len(b.Cells)+len(b.Seals) == 0 {
			return nil
		}
		err := s.sink.Write(ctx, b)
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.status.Cells += int64(len(b.Cells))
		s.status.Batches++
		s.status.LastWrite = time.Now()
		if s.status.LastError != nil {
			s.m.tell("a usage sink works again", s.status.Name)
		}
		s.status.LastError = nil
		s.mu.Unlock()
		b = Batch{}
		return nil
	}
	for _, id := range ids {
		if _, ok := src.keys[id.series]; !ok {
			continue // its name cannot be read; it comes again with its seal
		}
		b.Cells = appendCells(b.Cells, src.id, id, src.keys[id.series], cells[id])
		if len(b.Cells) >= batchCells {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	b.Seals = seals
	return flush()
}

func (s *shipper) cursorPath(dir string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '_'
	}, s.status.Name)
	return filepath.Join(dir, "sink-"+name+".json")
}

// load reads how far the sink has a log. One that cannot be read is begun
// again.
func (s *shipper) load(e Epoch, dir string) (cursor, error) {
	var c cursor
	b, err := os.ReadFile(s.cursorPath(dir))
	if err == nil && json.Unmarshal(b, &c) != nil {
		c = cursor{}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return c, err
	}
	s.mu.Lock()
	s.cursors[e] = c
	s.mu.Unlock()
	return c, nil
}

// save keeps how far the sink is. It need not be on the disk: see cursor.
func (s *shipper) save(e Epoch, dir string, c cursor) error {
	s.mu.Lock()
	s.cursors[e] = c
	s.mu.Unlock()
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	path := s.cursorPath(dir)
	if err := os.WriteFile(path+".tmp", b, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

// has reports whether the sink has all of an epoch, which is over.
func (s *shipper) has(e Epoch) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cursors[e].Done
}

func (s *shipper) at(e Epoch) place {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cursors[e].place
}

func (s *shipper) forget(e Epoch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.cursors, e)
}

// shipRest gives each sink a moment for what is left.
func (m *Meter) shipRest(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, restLimit)
	defer cancel()
	var wg sync.WaitGroup
	for _, s := range m.ships {
		wg.Go(func() {
			defer s.close()
			_, _ = s.round(ctx) // the next process goes on
		})
	}
	wg.Wait()
}

// Sinks returns how far each sink is.
func (m *Meter) Sinks() []SinkStatus {
	list := []SinkStatus{}
	logs := m.logs()
	for _, s := range m.ships {
		list = append(list, s.state(logs))
	}
	return list
}

func (s *shipper) state(logs []epochLog) SinkStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.status
	for _, l := range logs {
		c := s.cursors[l.meta.Epoch]
		n := behind(s.m.flush.folder.dir(l.meta.Epoch), c.place, l.limit)
		if c.Done || n == 0 {
			continue
		}
		st.Behind += n
		since := c.Wall
		if since.IsZero() {
			since = l.meta.Began
		}
		if st.Since.IsZero() || since.Before(st.Since) {
			st.Since = since
		}
	}
	wall, _ := s.m.system.clock()
	st.Missing = !st.Since.IsZero() && wall.Sub(st.Since) > missingAfter
	return st
}

// alarm tells when usage begins to be missing from a sink, and when it is there.
func (m *Meter) alarm() {
	logs := m.logs()
	for _, s := range m.ships {
		st := s.state(logs)
		s.mu.Lock()
		was := s.missed
		s.missed = st.Missing
		s.mu.Unlock()
		if st.Missing && !was {
			m.tell("usage is missing from a sink", fmt.Sprintf("%s: since %s, %d bytes of log", st.Name, st.Since.UTC().Format(time.RFC3339), st.Behind))
		} else if was && !st.Missing {
			m.tell("a usage sink has caught up", st.Name)
		}
	}
}

// behind returns the bytes of a log from a place on.
func behind(dir string, from place, limit *place) (n int64) {
	numbers, err := segments(dir)
	if err != nil {
		return 0
	}
	for _, number := range numbers {
		info, err := os.Stat(segmentPath(dir, number))
		if err != nil || number < from.Segment || limit != nil && number > limit.Segment {
			continue
		}
		size := info.Size()
		if limit != nil && number == limit.Segment {
			size = limit.Offset
		}
		if number == from.Segment {
			size -= from.Offset
		}
		n += size
	}
	return n
}
