//go:build !linux

package main

import "net"

// checkPeer leaves it to the folder's permissions who may take over.
func checkPeer(*net.UnixConn) error { return nil }
