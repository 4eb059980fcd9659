//go:build !linux

package main

import (
	"errors"
	"os"
)

// terminalSize is not known here: nothing is cut.
func terminalSize(*os.File) (rows, columns int) { return 0, 0 }

// onResize sends nothing here: the next drawing fits.
func onResize(chan<- os.Signal) {}

// readsKeys says whether keyByKey does anything.
const readsKeys = false

// keyByKey is not there: Ctrl-C ends a screen.
func keyByKey(*os.File) (restore func() error, err error) { return nil, errors.ErrUnsupported }
