//go:build unix

package upstream

import "syscall"

// quiet reports whether a socket is open and has nothing to read.
func quiet(fd uintptr) bool {
	var one [1]byte
	for {
		_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		if err == syscall.EINTR {
			continue
		}
		return err == syscall.EAGAIN
	}
}

// canTurn says that a socket can be read by its descriptor.
const canTurn = true

// receive reads once from a socket that does not block; again says that there
// is nothing yet.
func receive(fd uintptr, p []byte) (n int, again bool, err error) {
	for {
		n, err := syscall.Read(int(fd), p)
		switch err {
		case nil:
			return n, false, nil
		case syscall.EINTR:
		case syscall.EAGAIN:
			return 0, true, nil
		default:
			return 0, false, err
		}
	}
}
