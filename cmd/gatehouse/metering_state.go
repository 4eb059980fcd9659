package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/gatehouse-gateway/gatehouse/metering"
)

// writeMeteringMetrics writes how counting stands, and how far each sink is.
func (p *process) writeMeteringMetrics(w io.Writer) {
	s := p.meter.State()
	gauge := func(name string, n int64) { metrics.WriteGaugeUint64(w, "gatehouse_metering_"+name, uint64(max(0, n))) }
	gauge("failing", int64(truth(p.meter.Health() != nil)))
	gauge("refusing", int64(truth(p.meter.Full() != nil)))
	gauge("live", int64(truth(s.Live != "")))
	gauge("held", int64(truth(s.Held)))
	gauge("series", int64(s.Series))
	gauge("overflow_series", int64(s.Overflow))
	gauge("cells", int64(s.Records))
	gauge("log_bytes", s.LogBytes)
	gauge("log_limit_bytes", s.LogLimit)
	gauge("old_epochs", int64(s.Epochs))
	metrics.WriteGaugeFloat64(w, "gatehouse_metering_sealed_timestamp_seconds", seconds(s.Sealed))
	metrics.WriteCounterUint64(w, "gatehouse_metering_recovered_total", uint64(s.Recovered))
	metrics.WriteCounterUint64(w, "gatehouse_metering_interrupted_total", uint64(s.Interrupted))
	for i := range s.Sinks {
		k := &s.Sinks[i]
		of := fmt.Sprintf("{sink=%q}", k.Name)
		age := 0.0
		if !k.Since.IsZero() {
			age = max(0, time.Since(k.Since).Seconds())
		}
		metrics.WriteCounterUint64(w, "gatehouse_metering_sink_cells_total"+of, uint64(k.Cells))
		metrics.WriteCounterUint64(w, "gatehouse_metering_sink_batches_total"+of, uint64(k.Batches))
		metrics.WriteCounterUint64(w, "gatehouse_metering_sink_failures_total"+of, uint64(k.Failures))
		metrics.WriteGaugeUint64(w, "gatehouse_metering_sink_failing"+of, truth(k.LastError != nil))
		metrics.WriteGaugeUint64(w, "gatehouse_metering_sink_backlog_bytes"+of, uint64(max(0, k.Behind)))
		metrics.WriteGaugeFloat64(w, "gatehouse_metering_sink_backlog_seconds"+of, age)
		metrics.WriteGaugeFloat64(w, "gatehouse_metering_sink_written_timestamp_seconds"+of, seconds(k.LastWrite))
		metrics.WriteGaugeUint64(w, "gatehouse_metering_sink_missing"+of, truth(k.Missing))
	}
}

// seconds is Unix time, 0 for none.
func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

// usageMissing tells of sinks whose last write failed, and of those that have
// got nothing for too long. The gateway serves on: what they have not got is
// safe in the log.
func (p *process) usageMissing() error {
	var failed, late []string
	for _, k := range p.meter.Sinks() {
		switch {
		case k.Missing:
			late = append(late, sinkState(&k))
		case k.LastError != nil:
			failed = append(failed, fmt.Sprintf("the last write to %s failed, and is tried again: %v", k.Name, k.LastError))
		}
	}
	if len(late) > 0 {
		failed = append(failed, "usage is missing from "+strings.Join(late, "; "))
	}
	if len(failed) == 0 {
		return nil
	}
	return errors.New(strings.Join(failed, "; "))
}

func sinkState(k *metering.SinkStatus) string {
	text := fmt.Sprintf("%s since %s", k.Name, k.Since.UTC().Format(time.RFC3339))
	if k.LastError != nil {
		text += ": " + k.LastError.Error()
	}
	return text
}
