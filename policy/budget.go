package policy

import "time"

// budget is what one evaluation may still spend. It is the topdown.Cancel of
// that evaluation and used by its goroutine only.
type budget struct {
	steps    int // left
	patient  int // steps left for which the clock does not count yet
	grown    int // see maxGrown
	deadline time.Time
	cut      bool
}

// patientSteps are free of the deadline. An ordinary decision takes fewer, and
// must not be denied because the machine was busy with something else; what
// they cost in CPU is far below a deadline.
const patientSteps = 2000

// clockSteps is the number of steps between two looks at the clock.
const clockSteps = 8

// Cancel ends the evaluation at its next step.
func (b *budget) Cancel() { b.cut = true }

// Cancelled takes one step and reports whether none are left.
func (b *budget) Cancelled() bool { return !b.spend(1) }

// spend takes n steps, n >= 1, and reports whether they were there.
func (b *budget) spend(n int) bool {
	if b.cut {
		return false
	}
	before := b.steps
	b.steps -= n
	b.patient -= n
	if b.steps < 0 || b.patient < 0 && before/clockSteps != b.steps/clockSteps && !time.Now().Before(b.deadline) {
		b.cut = true
	}
	return !b.cut
}

// grow records that values grew by n, and reports whether they may.
func (b *budget) grow(n int) bool {
	b.grown += n
	return b.grown <= maxGrown
}
