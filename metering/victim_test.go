package metering

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"time"
)

const (
	victimName = "count-until-killed"
	bodyIn     = 100
	bodyOut    = 1000
	unitsEach  = 250_000
)

// victim counts requests for ever and acknowledges each by a byte on its
// standard output, after a line with its epoch. args are the data folder, the
// folder of the live file, the number of workers, and how many times faster
// than the world's the clock runs.
func victim(args []string) error {
	workers, _ := strconv.Atoi(args[2]) // written by the test
	speed, _ := strconv.Atoi(args[3])
	sys := hostSystem()
	sys.segment = 1 << 20
	start := time.Now()
	sys.clock = func() (time.Time, time.Duration) {
		elapsed := time.Since(start) * time.Duration(speed)
		return start.Add(elapsed).Round(0), elapsed
	}
	m, err := open(Options{Dir: args[0], Live: args[1], Flush: 10 * time.Millisecond}, sys)
	if err != nil {
		return err
	}
	_, e := m.Epoch()
	fmt.Println(e)
	ended := make(chan error, 1)
	go func() { ended <- m.Run(context.Background()) }()
	for w := range workers {
		go work(m, w)
	}
	return errors.Join(<-ended, errors.New("the meter ended"))
}

// work is one client with its requests.
func work(m *Meter, w int) {
	ack := []byte{'.'}
	t := m.Tenant("acme")
	var n atomic.Int64
	for {
		i := n.Add(1)
		// Most are of a few series; now and then there is a new one.
		who := fmt.Append(nil, "user-", i%5)
		if i%100 == 0 {
			who = fmt.Append(nil, "guest-", w, "-", i)
		}
		f := t.Series("gold", "orders", who).Begin(time.Now())
		f.Answer(&Answer{Status: 200, BytesIn: bodyIn, BytesOut: bodyOut, Units: unitsEach, Time: 7 * time.Microsecond})
		if _, err := os.Stdout.Write(ack); err != nil {
			return
		}
		f.Written()
		f.End()
	}
}
