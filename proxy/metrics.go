package proxy

import (
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/proxy/edge"
)

// gauges are the gateway's metrics. Every series is made at the start, so the
// number of series does not depend on traffic or tenants.
type gauges struct {
	set      *metrics.Set
	inFlight atomic.Int64  // requests between Begin and Finish
	tunnels  atomic.Int64  // upgraded connections
	edge     edge.Counters // of all listeners
	tick     atomic.Uint64 // requests begun; every sampleEvery-th is timed by phase

	served    [6]*metrics.Counter // by status class of the backend's answer
	refused   map[gatehouse.Code]*metrics.Counter
	aborted   *metrics.Counter
	duration  *metrics.PrometheusHistogram
	firstByte *metrics.PrometheusHistogram
	phases    [phaseCountOf]*metrics.PrometheusHistogram
	bytesIn   *metrics.Counter
	bytesOut  *metrics.Counter
	badUnits  *metrics.Counter

	soft, overage *metrics.Counter // requests served beyond a quota
	over          *metrics.Counter // units beyond those of overage

	updates       *metrics.Counter
	refusals      *metrics.Counter
	applyDuration *metrics.PrometheusHistogram
}

// sampleEvery spares most requests the clock reads that timing phases takes.
const sampleEvery = 64

// codePhase is the phase that a code's letters stand for.
var codePhase = map[string]phase{
	"AD": phaseAdmit, "RS": phaseResolve, "MT": phaseMatch, "ID": phaseIdentify,
	"DC": phaseDecide, "RL": phaseLimit, "FW": phaseForward, "IN": phaseForward,
}

// phaseLetters returns the letters of a code that name its phase.
func phaseLetters(c gatehouse.Code) string {
	if len(c) < len("GH-XX") {
		return ""
	}
	return string(c[3:5])
}

var (
	// requestBuckets are those of OpenTelemetry's HTTP conventions, in seconds.
	requestBuckets = []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}
	phaseBuckets   = []float64{1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 5e-3, 0.025, 0.1, 1}
	applyBuckets   = []float64{1e-4, 5e-4, 1e-3, 5e-3, 0.01, 0.05, 0.1, 0.5, 1, 5}
)

func newGauges() *gauges {
	s := metrics.NewSet()
	m := &gauges{set: s, refused: map[gatehouse.Code]*metrics.Counter{}}
	for class := 1; class <= 5; class++ {
		m.served[class] = s.NewCounter(`gatehouse_requests_total{phase="forward",outcome="` + string(rune('0'+class)) + `xx"}`)
	}
	for code, p := range gatehouse.Problems {
		ph, ok := codePhase[phaseLetters(code)]
		if !ok {
			continue // the control plane's
		}
		_, slug, _ := strings.Cut(p.Type, "#")
		m.refused[code] = s.NewCounter(`gatehouse_requests_total{phase="` + ph.String() + `",outcome="` + slug + `"}`)
	}
	m.aborted = s.NewCounter("gatehouse_responses_aborted_total")
	m.duration = s.NewPrometheusHistogramExt("gatehouse_request_duration_seconds", requestBuckets)
	m.firstByte = s.NewPrometheusHistogramExt("gatehouse_upstream_first_byte_seconds", requestBuckets)
	for p := range phaseCountOf {
		m.phases[p] = s.NewPrometheusHistogramExt(`gatehouse_phase_duration_seconds{phase="`+p.String()+`"}`, phaseBuckets)
	}
	m.bytesIn = s.NewCounter(`gatehouse_body_bytes_total{direction="in"}`)
	m.bytesOut = s.NewCounter(`gatehouse_body_bytes_total{direction="out"}`)
	m.badUnits = s.NewCounter("gatehouse_units_unreadable_total")
	m.soft = s.NewCounter(`gatehouse_ratelimit_beyond_total{mode="soft"}`)
	m.overage = s.NewCounter(`gatehouse_ratelimit_beyond_total{mode="overage"}`)
	m.over = s.NewCounter("gatehouse_ratelimit_over_units_total")
	m.updates = s.NewCounter("gatehouse_updates_total")
	m.refusals = s.NewCounter("gatehouse_updates_refused_tenants_total")
	m.applyDuration = s.NewPrometheusHistogramExt("gatehouse_update_duration_seconds", applyBuckets)

	return m
}

// counts sums what the tenants hold.
type counts struct{ tenants, open, idle, unhealthy, ejected, broken, waiting uint64 }

func (g *Gateway) counts() counts {
	g.mu.Lock()
	slots := slices.Collect(maps.Values(g.slots))
	g.mu.Unlock()
	c := counts{tenants: uint64(len(slots))}
	for _, s := range slots {
		t := s.table.Load()
		if t == nil {
			continue // removed meanwhile
		}
		c.waiting += uint64(s.limits.Waiting())
		for _, b := range t.backends {
			for _, e := range b.Stats().Endpoints {
				c.open += uint64(e.Open)
				c.idle += uint64(e.Idle)
				if !e.Healthy {
					c.unhealthy++
				}
				if e.Ejected {
					c.ejected++
				}
				if e.Circuit != "" && e.Circuit != "closed" {
					c.broken++
				}
			}
		}
	}
	return c
}

// writeEdgeMetrics writes what became of connections before HTTP.
func (g *Gateway) writeEdgeMetrics(w io.Writer) {
	e := &g.metrics.edge
	metrics.WriteGaugeUint64(w, "gatehouse_connections_open", uint64(max(0, e.Open.Load())))
	metrics.WriteCounterUint64(w, "gatehouse_connections_total", e.Accepted.Load())
	for bound, n := range e.Refusals() {
		metrics.WriteCounterUint64(w, `gatehouse_connections_refused_total{bound="`+bound+`"}`, n)
	}
	for reason, n := range e.Failures() {
		metrics.WriteCounterUint64(w, `gatehouse_connections_failed_total{reason="`+reason+`"}`, n)
	}
	metrics.WriteCounterUint64(w, `gatehouse_tls_handshakes_total{resumed="false"}`, e.Handshakes.Load()-e.Resumed.Load())
	metrics.WriteCounterUint64(w, `gatehouse_tls_handshakes_total{resumed="true"}`, e.Resumed.Load())
	if g.tls == nil {
		return
	}
	for _, c := range g.tls.Expiry() {
		metrics.WriteGaugeUint64(w, `gatehouse_certificate_expiry_timestamp_seconds{name=`+strconv.Quote(c.Name)+`}`, uint64(max(0, c.NotAfter.Unix())))
	}
}

// sample says whether the next request's phases are timed.
func (m *gauges) sample() bool { return m.tick.Add(1)%sampleEvery == 1 }

// finish counts an exchange that is over.
func (m *gauges) finish(x *Exchange, now time.Time) {
	took := now.Sub(x.start).Seconds()
	m.duration.Update(took)
	if x.code != "" {
		m.refused[x.code].Inc()
	} else if class := x.Status / 100; class >= 1 && class <= 5 {
		m.served[class].Inc()
		m.firstByte.Update(x.resp.FirstByte.Seconds())
		if x.failure != "" {
			m.aborted.Inc()
		}
	}
	if n := x.bodyIn.Load(); n > 0 {
		m.bytesIn.AddInt64(n)
	}
	if x.bodyOut > 0 {
		m.bytesOut.AddInt64(x.bodyOut)
	}
	if !x.sampled {
		return
	}
	for p := phaseAdmit; p <= x.phase; p++ {
		end := x.lined
		if p < x.phase {
			end = x.marks[p+1]
		}
		m.phases[p].Update((end - x.marks[p]).Seconds())
	}
}

func (m *gauges) applied(out *gatehouse.Outcome, took time.Duration) {
	m.updates.Inc()
	m.refusals.Add(len(out.Refused))
	m.applyDuration.Update(took.Seconds())
}

// WriteMetrics writes the gateway's metrics in the Prometheus text format.
func (g *Gateway) WriteMetrics(w io.Writer) {
	g.metrics.set.WritePrometheus(w)
	c := g.counts()
	metrics.WriteGaugeUint64(w, "gatehouse_requests_in_flight", uint64(g.metrics.inFlight.Load()))
	metrics.WriteGaugeUint64(w, "gatehouse_tunnels", uint64(g.metrics.tunnels.Load()))
	g.writeEdgeMetrics(w)
	g.writeLimitMetrics(w, c.waiting)
	metrics.WriteGaugeUint64(w, "gatehouse_config_revision", g.revision.Load())
	metrics.WriteGaugeUint64(w, "gatehouse_tenants", c.tenants)
	metrics.WriteCounterUint64(w, "gatehouse_upstream_dials_total", g.upstream.Dials())
	metrics.WriteGaugeUint64(w, `gatehouse_upstream_connections{state="open"}`, c.open)
	metrics.WriteGaugeUint64(w, `gatehouse_upstream_connections{state="idle"}`, c.idle)
	metrics.WriteGaugeUint64(w, "gatehouse_endpoints_unhealthy", c.unhealthy)
	metrics.WriteGaugeUint64(w, "gatehouse_endpoints_ejected", c.ejected)
	metrics.WriteGaugeUint64(w, "gatehouse_circuits_open", c.broken)
	metrics.WriteCounterUint64(w, "gatehouse_access_log_lost_bytes_total", uint64(g.access.lostBytes()))
}
