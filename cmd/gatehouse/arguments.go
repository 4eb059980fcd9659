package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// arguments checks the number of arguments, and says which is missing or one
// too many, with the exit code of usage.
func arguments(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		err := check(c, args)
		if err == nil {
			return nil
		}
		needed, optional := argumentsOf(c.Use)
		what := err.Error()
		switch all := len(needed) + len(optional); {
		case len(args) < len(needed):
			what = strings.Join(needed[len(args):], " and ") + " is missing"
			if len(needed)-len(args) > 1 {
				what = strings.Join(needed[len(args):], " and ") + " are missing"
			}
		case len(args) > all:
			what = fmt.Sprintf("%q is one argument too many", args[all])
			if all == 0 && c.Flags().Lookup("file") != nil {
				what += ": documents are given with -f"
			}
		}
		return &exit{exitUsage, fmt.Errorf("%s\nusage: %s%s\nsee %s --help", what, c.CommandPath(), strings.TrimPrefix(c.Use, c.Name()), c.CommandPath())}
	}
}

// argumentsOf are the names of the arguments that a command takes, those
// within brackets apart. Flags that stand beside them are left out.
func argumentsOf(use string) (needed, optional []string) {
	words := strings.Fields(use)[1:]
	within := false
	for i, word := range words {
		if strings.HasPrefix(word, "-") || i > 0 && strings.HasPrefix(words[i-1], "-") {
			continue
		}
		within = within || strings.HasPrefix(word, "[")
		name := strings.Trim(word, "[]…")
		if within {
			optional = append(optional, name)
		} else {
			needed = append(needed, name)
		}
		within = within && !strings.HasSuffix(word, "]")
	}
	return needed, optional
}

// unknownCommand refuses arguments of a group, which are commands that it does
// not have.
func unknownCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var known, nouns []string
	for _, sub := range c.Commands() {
		if sub.Hidden {
			continue
		}
		known = append(known, sub.Name())
		for _, verb := range sub.Commands() {
			if verb.Name() == args[0] {
				nouns = append(nouns, sub.CommandPath()+" "+verb.Name())
			}
		}
	}
	hint := didYouMean(args[0], known)
	if hint == "" && len(nouns) > 0 {
		hint = "; what it is done to comes first: " + strings.Join(nouns, ", ")
	}
	return &exit{exitUsage, fmt.Errorf("unknown command %q of %s%s\nsee %s --help", args[0], c.CommandPath(), hint, c.CommandPath())}
}
