package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
)

// profiled calls f, and then writes to a file where the process spent its CPU
// time meanwhile, as go tool pprof reads it; not for "". The file is there once
// it is whole. What f returns comes with what befell it.
func profiled(file string, f func() error) (err error) {
	if file == "" {
		return f()
	}
	out, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*")
	if err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	defer os.Remove(out.Name()) // where it has not become the file
	if err := pprof.StartCPUProfile(out); err != nil {
		return errors.Join(fmt.Errorf("profile: %w", err), out.Close())
	}
	defer func() {
		pprof.StopCPUProfile()
		failed := out.Close()
		if failed == nil {
			failed = os.Rename(out.Name(), file)
		}
		if failed != nil {
			err = errors.Join(err, fmt.Errorf("profile: %w", failed))
		}
	}()
	return f()
}
