package identity

import (
	"iter"
	"slices"
)

const (
	pageBuckets = 64
	// bucketFull is the mean number of entries in a bucket beyond which there
	// are twice as many buckets.
	bucketFull = 12
)

// index finds secrets by a seeded hash of something of theirs, the tag. It is
// immutable: an edit makes the next one, which shares every page that was not
// touched. With a million entries one change copies 20 KiB, and an entry costs
// about 20 bytes.
type index struct {
	pages []*page // nil: empty
	mask  uint64  // the number of buckets, a power of two, less one
	count int     // of entries
}

type page struct {
	owner   *owner // the edit that made it, and may write it until it is done
	buckets [][]entry
}

type entry struct {
	tag    uint64
	secret *secret
}

// owner tells edits apart by its address.
type owner struct{ _ byte }

// bucket returns the entries among which those of tag are. It is not to be
// changed.
func (x *index) bucket(tag uint64) []entry {
	if len(x.pages) == 0 {
		return nil
	}
	b := tag & x.mask
	return x.pages[b/pageBuckets].buckets[b%pageBuckets]
}

func (x *index) has(e entry) bool { return slices.Contains(x.bucket(e.tag), e) }

func (x *index) all() iter.Seq[entry] {
	return func(yield func(entry) bool) {
		for _, p := range x.pages {
			for _, b := range p.buckets {
				for _, e := range b {
					if !yield(e) {
						return
					}
				}
			}
		}
	}
}

// diff returns the entries that only x has and those that only y has. Between
// an index and its successor it costs in proportion to what was touched, as
// long as the number of buckets is the same.
func (x *index) diff(y *index) (gone, come []entry) {
	same := x.mask == y.mask && len(x.pages) == len(y.pages)
	only := func(a, b *index) (es []entry) {
		for i, p := range a.pages {
			if same && p == b.pages[i] {
				continue
			}
			for j, bucket := range p.buckets {
				if same && len(bucket) > 0 {
					if other := b.pages[i].buckets[j]; len(other) == len(bucket) && &other[0] == &bucket[0] {
						continue
					}
				}
				for _, e := range bucket {
					if !b.has(e) {
						es = append(es, e)
					}
				}
			}
		}
		return es
	}
	return only(x, y), only(y, x)
}

// edit is an index in the making. It belongs to one goroutine.
type edit struct {
	index
	owner *owner
}

// edit begins a change on the way of which the index will have count entries
// at least. It has room for them at once, and shrinks in done alone: between
// its buckets are never crowded.
func (x *index) edit(count int) *edit {
	e := &edit{*x, new(owner)}
	e.pages = slices.Clone(x.pages)
	e.grow(count)
	return e
}

// done returns the index made.
func (e *edit) done() index {
	want := e.buckets()
	for want > 1 && e.count < want*bucketFull/8 {
		want /= 2
	}
	e.resize(want)
	return e.index
}

// buckets is the number of them.
func (e *edit) buckets() int {
	if len(e.pages) == 0 {
		return 0
	}
	return int(e.mask) + 1
}

// grow makes room for count entries.
func (e *edit) grow(count int) {
	want := max(e.buckets(), 1)
	for count > want*bucketFull {
		want *= 2
	}
	e.resize(want)
}

// resize gives the index want buckets, a power of two.
func (e *edit) resize(want int) {
	if want == e.buckets() {
		return
	}
	old := e.index
	e.mask = uint64(want - 1)
	e.pages = make([]*page, max(1, want/pageBuckets))
	for i := range e.pages {
		e.pages[i] = &page{e.owner, make([][]entry, min(want, pageBuckets))}
	}
	for x := range old.all() {
		e.add(x)
	}
}

func (e *edit) put(x entry) {
	e.grow(e.count + 1)
	e.add(x)
	e.count++
}

// remove takes the entry out and reports whether it was there.
func (e *edit) remove(x entry) bool {
	old := e.bucket(x.tag)
	i := slices.Index(old, x)
	if i < 0 {
		return false
	}
	next := make([]entry, len(old)-1)
	copy(next[copy(next, old[:i]):], old[i+1:])
	*e.slot(x.tag) = next
	e.count--
	return true
}

func (e *edit) add(x entry) {
	slot := e.slot(x.tag)
	next := make([]entry, len(*slot)+1) // append would leave room that is never used
	next[copy(next, *slot)] = x
	*slot = next
}

// slot returns the place of a bucket on a page of this edit's own.
func (e *edit) slot(tag uint64) *[]entry {
	b := tag & e.mask
	p := e.pages[b/pageBuckets]
	if p.owner != e.owner {
		p = &page{e.owner, slices.Clone(p.buckets)}
		e.pages[b/pageBuckets] = p
	}
	return &p.buckets[b%pageBuckets]
}
