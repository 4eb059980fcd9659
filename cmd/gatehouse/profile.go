package main

import (
	"errors"
	"os"
	"runtime/pprof"
)

// profiled calls f, and writes to a file where the process spent its CPU time
// meanwhile, as go tool pprof reads it; not for "". What f returns comes with
// what befell the file.
func profiled(file string, f func() error) (err error) {
	if file == "" {
		return f()
	}
	out, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(out); err != nil {
		return errors.Join(err, out.Close())
	}
	defer func() {
		pprof.StopCPUProfile()
		err = errors.Join(err, out.Close())
	}()
	return f()
}
