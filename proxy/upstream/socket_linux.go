//go:build linux && (amd64 || arm64)

package upstream

import (
	"syscall"
	"unsafe"
)

// The calls below are of sockets that do not block, and so are made without
// the scheduler's knowledge: telling it that a goroutine may block, and that
// it did not, takes a quarter of such a call.

// quiet reports whether a socket is open and has nothing to read.
func quiet(fd uintptr) bool {
	var one [1]byte
	for {
		_, _, err := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&one[0])), 1, syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
		if err != syscall.EINTR {
			return err == syscall.EAGAIN
		}
	}
}

// canTurn says that a socket can be read by its descriptor.
const canTurn = true

// receive reads once from a socket that does not block; again says that there
// is nothing yet.
func receive(fd uintptr, p []byte) (n int, again bool, err error) {
	for {
		n, _, err := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
		switch err {
		case 0:
			return int(n), false, nil
		case syscall.EINTR:
		case syscall.EAGAIN:
			return 0, true, nil
		default:
			return 0, false, err
		}
	}
}

// send writes what the socket takes at once; of an error it says nothing, for
// the next write has it again.
func send(fd uintptr, p []byte) (n int) {
	sent, _, err := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	if err != 0 {
		return 0
	}
	return int(sent)
}
