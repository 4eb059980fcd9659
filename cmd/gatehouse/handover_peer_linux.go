package main

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// checkPeer refuses a process of another user: the folder of the socket may be
// writable to more than ours.
func checkPeer(c *net.UnixConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return fmt.Errorf("look at the other process: %w", err)
	}
	var peer *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) {
		peer, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return fmt.Errorf("look at the other process: %w", err)
	}
	if failed != nil {
		return fmt.Errorf("look at the other process: %w", failed)
	}
	if us := os.Geteuid(); int(peer.Uid) != us && peer.Uid != 0 {
		return fmt.Errorf("process %d belongs to user %d, not %d", peer.Pid, peer.Uid, us)
	}
	return nil
}
