package proxy

import "sync"

// sessions are the client connections that are open, so that a drain can end
// those that rest.
type sessions struct {
	mu   sync.Mutex
	open map[client]struct{} // guarded by mu
}

// client is one client connection.
type client interface {
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

// abandonAll ends the connections on which no request is being served.
func (s *sessions) abandonAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		c.abandon()
	}
}

// cutAll closes all connections.
func (s *sessions) cutAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		c.cut()
	}
}
