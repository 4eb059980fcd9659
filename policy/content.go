package policy

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"weak"

	"github.com/gatehouse-gateway/gatehouse"
)

// contentKey identifies modules by name, text and order.
type contentKey [sha256.Size]byte

func contentSum(modules []gatehouse.Module) contentKey {
	h := sha256.New()
	var size [8]byte
	put := func(s string) {
		binary.BigEndian.PutUint64(size[:], uint64(len(s)))
		h.Write(size[:])
		h.Write([]byte(s))
	}
	for _, m := range modules {
		put(m.Name)
		put(m.Source)
	}
	return contentKey(h.Sum(nil))
}

// content is one distinct text of a tenant's modules and what is known of it.
// Policies of the same text share it.
type content struct {
	sum      contentKey
	modules  []gatehouse.Module
	own      *readSet // what the modules read
	reads    *readSet // and the baseline with them
	warnings gatehouse.Faults
	size     int // of program, bytes, about

	// program is nil while the modules are cold.
	program atomic.Pointer[program]
	// used is set by evaluations and cleared by the search for a program to
	// let go.
	used atomic.Bool
	mu   sync.Mutex // held by the one that compiles the cold modules
}

// compiled holds the contents in use, and bounds the memory of their programs.
type compiled struct {
	limit int
	// slots bounds the cold modules that are compiled at once: what a
	// compilation needs meanwhile is not in limit.
	slots chan struct{}

	mu sync.Mutex // guards what follows
	// contents are those that some Policy uses.
	contents map[contentKey]weak.Pointer[content]
	// ring holds those with a program, at[sum] is the place of each; hand is
	// where the next search begins.
	ring  []resident
	at    map[contentKey]int
	hand  int
	total int // bytes
}

type resident struct {
	sum     contentKey
	content weak.Pointer[content]
	size    int
}

func (s *compiled) open(limit, slots int) {
	s.limit, s.slots = limit, make(chan struct{}, slots)
	s.contents, s.at = map[contentKey]weak.Pointer[content]{}, map[contentKey]int{}
}

func (s *compiled) find(sum contentKey) *content {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.contents[sum].Value()
}

// share returns the content kept for the text of c, which is c unless another
// Compile of the same text was quicker.
func (s *compiled) share(c *content) *content {
	s.mu.Lock()
	defer s.mu.Unlock()
	if first := s.contents[c.sum].Value(); first != nil {
		return first
	}
	s.contents[c.sum] = weak.Make(c)
	runtime.AddCleanup(c, s.forget, c.sum)
	s.admit(c)
	return c
}

// forget drops a content that is no longer in use, unless the same modules
// have been compiled anew since.
func (s *compiled) forget(sum contentKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.contents[sum].Value() != nil {
		return
	}
	delete(s.contents, sum)
	if i, ok := s.at[sum]; ok {
		s.remove(i)
	}
}

// admit counts the program of c, and lets others go while there are too many.
// The caller holds mu.
func (s *compiled) admit(c *content) {
	if i, ok := s.at[c.sum]; ok {
		s.remove(i) // of the same text, forgotten soon
	}
	c.used.Store(true)
	s.at[c.sum] = len(s.ring)
	s.ring = append(s.ring, resident{c.sum, weak.Make(c), c.size})
	s.total += c.size
	// Each pass over the ring clears every used, so two find one to let go.
	for looked := 0; s.total > s.limit && looked < 2*len(s.ring)+2; looked++ {
		s.hand %= len(s.ring)
		other := s.ring[s.hand].content.Value()
		switch {
		case other == c, other != nil && other.used.Swap(false):
			s.hand++
		default:
			if other != nil {
				other.program.Store(nil)
			}
			s.remove(s.hand)
		}
	}
}

func (s *compiled) remove(i int) {
	s.total -= s.ring[i].size
	delete(s.at, s.ring[i].sum)
	last := len(s.ring) - 1
	if i != last {
		s.ring[i] = s.ring[last]
		s.at[s.ring[i].sum] = i
	}
	s.ring[last] = resident{}
	s.ring = s.ring[:last]
}

var errRecompile = errors.New("policy: modules that had compiled do not compile again")

// programOf returns the program of c, compiled again if it was let go. Requests
// that come meanwhile wait for the one that compiles.
func (e *Engine) programOf(c *content) (*program, error) {
	if p := c.program.Load(); p != nil {
		if !c.used.Load() {
			c.used.Store(true)
		}
		return p, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.program.Load(); p != nil {
		return p, nil
	}
	s := &e.compiled
	s.slots <- struct{}{}
	defer func() { <-s.slots }()
	parsed := parse(e.caps, c.modules)
	if len(parsed.faults) > 0 {
		return nil, errRecompile
	}
	p, _ := e.program(parsed, tenantRoot, ByTenant, 0)
	if p == nil {
		return nil, errRecompile
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c.program.Store(p)
	s.admit(c)
	return p, nil
}
