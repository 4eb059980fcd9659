package main

import (
	"testing"
	"time"
)

// What wrk says of the spread may end in 50% too.
func TestReadWrk(t *testing.T) {
	f, err := readWrk([]byte(`Running 3s test @ http://localhost:18100/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.47ms    1.60ms  30.53ms   92.50%
    Req/Sec    47.10k     4.02k   52.60k    83.33%
  Latency Distribution
     50%    0.98ms
     75%    1.57ms
     90%    2.92ms
     99%    8.30ms
  140734 requests in 3.00s, 166.16MB read
Requests/sec:  46877.26
Transfer/sec:     55.35MB
`))
	want := figures{requests: 140734, rps: 46877.26, p50: 980 * time.Microsecond, p99: 8300 * time.Microsecond}
	if err != nil || f != want {
		t.Errorf("%+v, %v, want %+v", f, err, want)
	}
	if _, err := readWrk([]byte("unable to connect")); err == nil {
		t.Error("what is not wrk's was read")
	}
}
