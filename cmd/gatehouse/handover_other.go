//go:build !unix

package main

import (
	"context"
	"errors"
)

var (
	errSilent = errors.New("the process that uses it does not hand over")
	errSystem = errors.New("sockets are not handed over on this system")
)

func (h *handover) serve(context.Context) error { return errSystem }

// predecessor is never there.
type predecessor struct {
	process int
	sockets []socket
}

func askPredecessor(context.Context, string) (*predecessor, error) { return nil, errSystem }

func (p *predecessor) succeed(context.Context) error { return errSystem }

func (p *predecessor) close() {}
