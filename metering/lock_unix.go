//go:build unix && !linux && !solaris && !illumos && !aix

package metering

import (
	"errors"
	"os"
	"syscall"
)

const canLock = true

// lockFile takes f for as long as it is open, and reports whether it could.
func lockFile(f *os.File) (bool, error) {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}
