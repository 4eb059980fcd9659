package metering

import "time"

// clock tells the time of the meter: the wall clock of the start and what has
// elapsed since by a clock that is never set, drawn towards the wall clock by
// at most a thousandth. So a step of the wall clock moves no usage, and no
// minute comes twice. One goroutine uses it.
type clock struct {
	read func() (wall time.Time, mono time.Duration)
	now  time.Time     // at the last tick
	mono time.Duration // at the last tick
	off  time.Duration // wall clock less now, at the last tick
}

const (
	slewPart = 1000            // a thousandth: 1 ms in each second
	stepFrom = 2 * time.Second // a change of the wall clock that is told
)

func newClock(read func() (time.Time, time.Duration)) *clock {
	wall, mono := read()
	return &clock{read: read, now: wall, mono: mono}
}

// tick moves the clock on, and returns how far the wall clock has been set
// since the last tick, 0 if that is not worth telling.
func (c *clock) tick() (s stamp, step time.Duration) {
	wall, mono := c.read()
	elapsed := max(mono-c.mono, 0)
	c.mono = mono
	c.now = c.now.Add(elapsed)
	off := wall.Sub(c.now)
	if d := off - c.off; d > stepFrom || d < -stepFrom {
		step = d
	}
	slew := min(max(off, -elapsed/slewPart), elapsed/slewPart)
	c.now = c.now.Add(slew)
	c.off = off - slew
	return stamp{c.now, mono}, step
}

// minute returns the window of a time: minutes since 1970, and never 0.
func minute(t time.Time) uint32 { return uint32(max(t.Unix()/60, 1)) }

func windowTime(w uint32) time.Time { return time.Unix(int64(w)*60, 0).UTC() }
