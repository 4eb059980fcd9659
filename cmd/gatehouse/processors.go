package main

import "runtime"

// atLeastTwo lets Go run on two threads where there is one processor. Go
// leaves the network alone while something long runs on its only thread, such
// as a write of usage to the ledger, for up to 10 ms; of two threads the kernel
// lets the one with a request go first. GOMAXPROCS overrides it.
func atLeastTwo(getenv func(string) string) {
	if getenv("GOMAXPROCS") == "" && runtime.GOMAXPROCS(0) < 2 {
		runtime.GOMAXPROCS(2)
	}
}
