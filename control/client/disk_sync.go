package client

import (
	"encoding/json"
	"errors"
	"os"
	"runtime"
)

func decodePosition(b []byte) (p position, err error) {
	err = json.Unmarshal(b, &p)
	return p, err
}

// syncFolder makes the names in a folder durable. Windows has no such thing.
func syncFolder(name string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
