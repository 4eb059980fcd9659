package proxy

import (
	"maps"
	"slices"
	"sync"
)

// sessions are the client connections that are open, so that a drain can end
// those that rest.
type sessions struct {
	mu   sync.Mutex
	open map[client]struct{} // guarded by mu
}

// client is one client connection.
type client interface {
	// leave asks the client to go elsewhere, where the protocol has a way to.
	leave()
	// abandon closes it if no request is being served on it.
	abandon()
	// cut closes it.
	cut()
}

func (s *sessions) add(c client) {
	s.mu.Lock()
	if s.open == nil {
		s.open = map[client]struct{}{}
	}
	s.open[c] = struct{}{}
	s.mu.Unlock()
}

func (s *sessions) remove(c client) {
	s.mu.Lock()
	delete(s.open, c)
	s.mu.Unlock()
}

func (s *sessions) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// all returns the connections of now, to be dealt with outside the lock:
// closing one may take time.
func (s *sessions) all() []client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.open))
}
