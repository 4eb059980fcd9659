package main

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// terminalSize is how much a terminal shows; 0 where it does not say.
func terminalSize(f *os.File) (rows, columns int) {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0
	}
	return int(size.Row), int(size.Col)
}

// onResize sends a signal when the size of the terminal has changed.
func onResize(c chan<- os.Signal) { signal.Notify(c, syscall.SIGWINCH) }

// readsKeys says whether keyByKey does anything.
const readsKeys = true

// keyByKey has a terminal give each key at once, without showing it; a read
// returns after a tenth of a second where there is none. Ctrl-C stays a
// signal. restore makes it as it was.
func keyByKey(f *os.File) (restore func() error, err error) {
	fd := int(f.Fd())
	was, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, err
	}
	now := *was
	now.Lflag &^= unix.ICANON | unix.ECHO
	now.Cc[unix.VMIN], now.Cc[unix.VTIME] = 0, 1
	return func() error { return unix.IoctlSetTermios(fd, unix.TCSETS, was) }, unix.IoctlSetTermios(fd, unix.TCSETS, &now)
}
