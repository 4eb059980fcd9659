package policy

import "sync"

// pool is a sync.Pool of one type. What is put back holds nothing of the
// request that it was taken for. A zero pool is ready.
type pool[T any] struct{ free sync.Pool }

// take returns nil if the pool is empty.
func (p *pool[T]) take() *T {
	v, _ := p.free.Get().(*T)
	return v
}

func (p *pool[T]) put(v *T) { p.free.Put(v) }
