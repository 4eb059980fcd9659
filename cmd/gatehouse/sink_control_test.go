package main

import (
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/metering"
)

// A control plane that takes connections and never answers holds up no report
// for longer than its limit.
func TestReportLimit(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // the kernel takes connections
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const limit = 50 * time.Millisecond
	c := patient(t, l.Addr().String(), "ghop_x")
	if err := (&controlSink{c, "edge-1", limit}).Write(t.Context(), metering.Batch{}); err == nil {
		t.Error("usage was taken by nobody")
	}
	remote := &remoteFeed{client: c, limit: limit, log: slog.New(slog.DiscardHandler)}
	if n, err := remote.sendTraffic(t.Context(), control.Source{Gateway: "edge-1", Epoch: "e"}, 1, make([]control.Minute, 3)); n != 0 || err == nil {
		t.Error("traffic was taken by nobody", n)
	}
}

// A data plane whose ledger is a file of its own reports its usage to the
// control plane; one whose ledger is PostgreSQL, which both know, does not.
func TestLedgerOfDataPlane(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	write(t, token, "ghop_x")
	for list, want := range map[string]bool{
		"": true, "{kind: sqlite}": true, "{kind: kafka, brokers: ['127.0.0.1:1']}": true, "{kind: kafka, brokers: ['127.0.0.1:1']}, {kind: sqlite}": true,
		"{kind: postgres, url: 'postgres://u@127.0.0.1:1/x'}": false,
	} {
		cfg, err := readConfig(settings(t, fmt.Sprintf("roles: [proxy]\ndata: %q\ncontrol: {url: 'http://127.0.0.1:1', token_file: %q, gateway: edge-1}\nmetering: {sinks: [%s]}\n", t.TempDir(), token, list)))
		if err != nil {
			t.Fatal(err)
		}
		s, err := openSinks(&cfg)
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, sink := range s.all {
			found = found || sink.Name() == controlSinkName
		}
		if found != want {
			t.Errorf("[%s]: usage is reported: %v", list, found)
		}
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}
}
