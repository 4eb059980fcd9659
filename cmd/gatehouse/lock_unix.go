//go:build unix

package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// lockFolder takes the data folder for this process, and makes it where it is
// missing: two that write the same counters would lose each other's. The
// kernel gives the lock back when the process ends, however it ends. The error
// is errHeld while another process has it.
func lockFolder(folder string) (*os.File, error) {
	f, err := openLock(folder)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close() // it is not ours
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("data folder %s %w", folder, errHeld)
		}
		return nil, fmt.Errorf("lock data folder %s: %w", folder, err)
	}
	return f, nil
}
