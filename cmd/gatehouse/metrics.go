package main

import (
	"io"

	"github.com/VictoriaMetrics/metrics"
)

// writeProcessMetrics writes memory, CPU and runtime metrics.
func writeProcessMetrics(w io.Writer) { metrics.WriteProcessMetrics(w) }
