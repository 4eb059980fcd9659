package metering

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain also is the process that TestKill kills.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == killMe {
		countAndFlush(os.Args[2])
	}
	goleak.VerifyTestMain(m)
}

const (
	killMe    = "count-until-killed"
	perFlush  = 100
	unitsEach = 250_000
)

// countAndFlush counts and flushes for ever, and says so after each flush.
func countAndFlush(dir string) {
	m, err := Open(dir, time.Hour)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	t := m.Tenant("acme")
	for i := 0; ; i++ {
		for range perFlush {
			t.Series("orders", fmt.Append(nil, i%50)).Count(200, 1, 2, unitsEach, time.Microsecond)
		}
		m.flush()
		if err := m.Health(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("flushed")
	}
}
