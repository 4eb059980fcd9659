//go:build race

package main

// racing is how many times the memory the race detector takes.
const racing = 8
