//go:build !unix

package upstream

import "errors"

// quiet cannot tell here; a connection that has ended shows at its next use.
func quiet(uintptr) bool { return true }

const canTurn = false

func receive(uintptr, []byte) (n int, again bool, err error) { return 0, false, errors.ErrUnsupported }
