//go:build !unix

package main

import "os"

// lockFolder opens the lock and holds nothing: there is no flock here, so
// nothing keeps a second process from the folder.
func lockFolder(folder string) (*os.File, error) { return openLock(folder) }
