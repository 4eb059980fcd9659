package upstream

import "sync"

// The classes of buffers. An answer's header begins in the smallest and may
// grow to the largest, which is also the bound on a header section.
var bufferSizes = [...]int{4 << 10, 32 << 10, maxHead}

// buffer is one pooled slice. Idle connections hold none.
type buffer struct {
	b     []byte
	class int
}

// buffers recycles buffers by class. Safe for concurrent use.
type buffers struct{ pools [len(bufferSizes)]sync.Pool }

// take returns a buffer of at least n bytes. One beyond the largest class is
// allocated, and not kept by put.
func (p *buffers) take(n int) *buffer {
	for class, size := range bufferSizes {
		if n > size {
			continue
		}
		if b, ok := p.pools[class].Get().(*buffer); ok {
			return b
		}
		return &buffer{make([]byte, size), class}
	}
	return &buffer{make([]byte, n), len(bufferSizes)}
}

func (p *buffers) put(b *buffer) {
	if b != nil && b.class < len(bufferSizes) {
		p.pools[b.class].Put(b)
	}
}
