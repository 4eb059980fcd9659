package upstream

import "time"

// minRoom is the least of a buffer that a body is read through.
const minRoom = 2 * maxLine

// room makes at least n bytes of buffer follow c.r, without touching the
// header section.
func (c *conn) room(n int) {
	if c.r == c.w {
		c.r, c.w = c.base, c.base
	}
	switch {
	case len(c.in.b)-c.r >= n:
	case len(c.in.b)-c.base >= n:
		c.w = c.base + copy(c.in.b[c.base:], c.in.b[c.r:c.w])
		c.r = c.base
	default:
		pools := &c.endpoint.client.buffers
		b := pools.take(n)
		c.w = copy(b.b, c.in.b[c.r:c.w])
		if c.kept == nil {
			c.kept = c.in
		} else {
			pools.put(c.in)
		}
		c.in, c.base, c.r = b, 0, 0
	}
}

// fill reads once into the buffer, waiting up to idle.
func (c *conn) fill(idle time.Duration) error {
	if c.r == c.w || c.w == len(c.in.b) {
		c.room(max(minRoom, c.w-c.r+1))
	}
	n, err := c.read(c.in.b[c.w:], c.clock.now()+idle, idle)
	c.w += n
	return err
}

// take reads once into p, from what is buffered if there is any.
func (c *conn) take(p []byte, idle time.Duration) (int, error) {
	if c.r == c.w && len(p) >= minRoom {
		return c.read(p, c.clock.now()+idle, idle)
	}
	if c.r == c.w {
		if err := c.fill(idle); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.in.b[c.r:c.w])
	c.r += n
	return n, nil
}
