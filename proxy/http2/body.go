package http2

// block is a part of a request body that has not been read.
type block struct {
	next *block
	r, w int
	b    [4 << 10]byte
}

// body is what has come of a request body and has not been read, in blocks of
// the Config. It is guarded by Conn.mu, and never longer than a window.
type body struct {
	first, end *block
	n          int
}

func (b *body) add(cfg *Config, p []byte) {
	b.n += len(p)
	for len(p) > 0 {
		if b.end == nil || b.end.w == len(b.end.b) {
			k, ok := cfg.blocks.Get().(*block)
			if !ok {
				k = new(block)
			}
			if b.end == nil {
				b.first = k
			} else {
				b.end.next = k
			}
			b.end = k
		}
		n := copy(b.end.b[b.end.w:], p)
		b.end.w += n
		p = p[n:]
	}
}

func (b *body) read(cfg *Config, p []byte) int {
	done := 0
	for done < len(p) && b.first != nil {
		k := b.first
		n := copy(p[done:], k.b[k.r:k.w])
		done += n
		if k.r += n; k.r == k.w {
			b.shift(cfg)
		}
	}
	b.n -= done
	return done
}

func (b *body) shift(cfg *Config) {
	k := b.first
	if b.first = k.next; b.first == nil {
		b.end = nil
	}
	k.next, k.r, k.w = nil, 0, 0
	cfg.blocks.Put(k)
}

// drop discards all, and returns how much that was.
func (b *body) drop(cfg *Config) int {
	n := b.n
	for b.first != nil {
		b.shift(cfg)
	}
	b.n = 0
	return n
}
