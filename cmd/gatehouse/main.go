// Command gatehouse is the gateway, its control plane and their tools.
package main

import (
	"context"
	"os"
	_ "time/tzdata" // time zones where the system has none
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Getenv, os.Stdin, os.Stdout, os.Stderr))
}
