//go:build !unix

package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// lockFolder makes the data folder, opens the lock file and holds nothing: there is no flock here,
// so nothing keeps a second process from the folder.
func lockFolder(folder string) (*os.File, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("data folder %s: %w", folder, err)
	}
	f, err := os.OpenFile(filepath.Join(folder, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data folder: %w", err)
	}
	return f, nil
}
