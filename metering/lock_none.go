//go:build !unix || solaris || illumos || aix

package metering

import "os"

const canLock = false

// lockFile takes every file: on this system one process at a time may use a
// folder, and nothing holds it to that.
func lockFile(*os.File) (bool, error) { return true, nil }
