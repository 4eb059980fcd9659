package main

import (
	"fmt"
	"math"
	"strconv"

	"github.com/spf13/cobra"
)

// number is a flag that is a whole number from a least one on: what is below it
// is refused by the flag's name, and not taken for a default.
type number struct {
	to    *int
	least int
	given bool
}

// numberFlag adds such a flag. to keeps its value where the flag is not given,
// which the usage tells of.
func numberFlag(c *cobra.Command, to *int, name string, least int, usage string) {
	c.Flags().Var(&number{to: to, least: least}, name, usage)
}

// Set reads a value.
func (n *number) Set(text string) error {
	v, err := strconv.ParseInt(text, 10, 32)
	if err != nil || v < int64(n.least) {
		return fmt.Errorf("a whole number from %d to %d is expected", n.least, math.MaxInt32)
	}
	*n.to, n.given = int(v), true
	return nil
}

// String is the value that was given.
func (n *number) String() string {
	if !n.given {
		return ""
	}
	return strconv.Itoa(*n.to)
}

// Type is for the help.
func (n *number) Type() string { return "int" }
