package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"unicode/utf8"
)

// errQuit ends a screen on which q was pressed: it is no failure.
var errQuit = errors.New("quit")

// screen is a terminal that a command draws the whole of, again and again.
type screen struct {
	s   *streams
	out *os.File

	mu   sync.Mutex
	last []string // what was drawn; guarded by mu
}

// Codes of a terminal.
const (
	ownScreen   = "\x1b[?1049h\x1b[?25l" // another page, and no cursor
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	home        = "\x1b[H"
	restOfLine  = "\x1b[K"
	restOfPage  = "\x1b[J"
)

// onScreen calls f with the terminal as its screen until f ends or q is
// pressed, and leaves the terminal as it was, however f ends. The screen is
// drawn anew when its size changes.
func onScreen(ctx context.Context, s *streams, f func(context.Context, *screen) error) (err error) {
	sc := &screen{s: s, out: s.terminal}
	ctx, quit := context.WithCancelCause(ctx)
	var parts sync.WaitGroup
	restore := func() error { return nil }
	defer func() {
		quit(nil)
		parts.Wait()
		_, e := io.WriteString(s.out, leaveScreen)
		err = errors.Join(err, restore(), e)
	}()
	if _, err := io.WriteString(s.out, ownScreen); err != nil {
		return err
	}
	if in, ok := s.stdin.(*os.File); ok && readsKeys && isTerminal(in) {
		was, err := keyByKey(in)
		if err != nil {
			return fmt.Errorf("read keys: %w", err)
		}
		restore = was
		parts.Go(func() { sc.keys(ctx, in, quit) })
	}
	sizes := make(chan os.Signal, 1)
	onResize(sizes)
	defer signal.Stop(sizes)
	parts.Go(func() { sc.resize(ctx, sizes, quit) })
	err = f(ctx, sc)
	if errors.Is(context.Cause(ctx), errQuit) {
		return nil
	}
	if cause := context.Cause(ctx); errors.Is(err, context.Canceled) && cause != nil {
		return cause
	}
	return err
}

// keys quits at q, until ctx ends.
func (sc *screen) keys(ctx context.Context, in *os.File, quit context.CancelCauseFunc) {
	for key := make([]byte, 1); ctx.Err() == nil; {
		n, err := in.Read(key) // returns without a key after a tenth of a second
		if err != nil && !errors.Is(err, io.EOF) {
			return // there is no terminal any more
		}
		if n == 1 && (key[0] == 'q' || key[0] == 'Q') {
			quit(errQuit)
		}
	}
}

// resize draws what there is once more when the size has changed, until ctx
// ends.
func (sc *screen) resize(ctx context.Context, sizes <-chan os.Signal, quit context.CancelCauseFunc) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-sizes:
			sc.mu.Lock()
			err := sc.redraw()
			sc.mu.Unlock()
			if err != nil {
				quit(err)
			}
		}
	}
}

// draw shows lines, the first of them bold.
func (sc *screen) draw(lines []string) error {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	sc.last = lines
	return sc.redraw()
}

// redraw is for who holds mu. What does not fit is left out: a line that wraps
// would push others off the page.
func (sc *screen) redraw() error {
	var b strings.Builder
	b.WriteString(home)
	rows, columns := terminalSize(sc.out)
	for i, line := range fit(sc.last, rows, columns) {
		if i > 0 {
			b.WriteString("\n")
		} else {
			line = sc.s.colour(sc.out, bold, line)
		}
		b.WriteString(line + restOfLine)
	}
	b.WriteString(restOfPage)
	_, err := io.WriteString(sc.s.out, b.String())
	return err
}

// fit cuts lines to a size; 0 is unknown, and cuts nothing.
func fit(lines []string, rows, columns int) []string {
	if rows > 0 && len(lines) > rows {
		more := fmt.Sprintf("… %s more", count(len(lines)-rows+1, "line"))
		lines = append(lines[:rows-1:rows-1], more)
	}
	out := make([]string, len(lines))
	for i, l := range lines {
		if columns > 0 && utf8.RuneCountInString(l) > columns {
			l = string([]rune(l)[:columns])
		}
		out[i] = l
	}
	return out
}
