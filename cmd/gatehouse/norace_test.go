//go:build !race

package main

const racing = 1
