package grpcx

import (
	"sync/atomic"
	"time"

	"google.golang.org/grpc/experimental/stats"
)

// What a resolver counts, through the recorder of the channel: stats/opentelemetry takes it up like gRPC's own metrics, by
// the names below. Each has the label grpc.target.
var (
	metricUpdates = stats.RegisterInt64Count(describe("updates", "{update}", "States that the resolver gave to the channel."))
	metricErrors  = stats.RegisterInt64Count(describe("errors", "{error}", "Errors that the registry reported, each time that it became another."))
	metricHolds   = stats.RegisterInt64Count(describe("holds", "{hold}", "Times that an emptied set was not believed at once."))
	metricPanics  = stats.RegisterInt64Count(describe("panics", "{panic}", "Times that the instances which do not pass were used as well."))

	metricEndpoints = stats.RegisterInt64Gauge(describe("endpoints", "{endpoint}", "Endpoints in the newest state."))
	metricSubset    = stats.RegisterInt64Gauge(describe("subset_size", "{endpoint}", "Endpoints in the newest state of a channel that uses a subset."))
	metricAge       = stats.RegisterInt64AsyncGauge(describe("set_age", "s", "How long the set has possibly been out of date; 0 while the registry answers."))
)

func describe(name, unit, text string) stats.MetricDescriptor {
	return stats.MetricDescriptor{
		Name: "rollcall.resolver." + name, Description: text, Unit: unit, Labels: []string{"grpc.target"}, Default: true,
	}
}

// meter records for one channel.
type meter struct {
	recorder stats.MetricsRecorder
	target   string
	since    atomic.Int64 // when the registry last answered, as time.Time.UnixNano; 0 while it does
	end      func()
}

// newMeter returns a meter, which is to be closed. A recorder that is nil records nothing.
func newMeter(r stats.MetricsRecorder, target string) *meter {
	if r == nil {
		r = stats.UnimplementedMetricsRecorder{}
	}
	m := &meter{recorder: r, target: target, end: func() {}}
	m.setStale(true) // nothing is known yet
	if end := r.RegisterAsyncReporter(stats.AsyncMetricReporterFunc(m.report), metricAge); end != nil {
		m.end = end
	}
	return m
}

func (m *meter) close() { m.end() }

func (m *meter) report(r stats.AsyncMetricsRecorder) error {
	age := time.Duration(0)
	if since := m.since.Load(); since != 0 {
		age = time.Since(time.Unix(0, since))
	}
	metricAge.Record(r, int64(age/time.Second), m.target)
	return nil
}

// setStale notes whether the set may be out of date from now on.
func (m *meter) setStale(stale bool) {
	if !stale {
		m.since.Store(0)
		return
	}
	m.since.CompareAndSwap(0, time.Now().UnixNano())
}

func (m *meter) count(what *stats.Int64CountHandle) { what.Record(m.recorder, 1, m.target) }

func (m *meter) gauge(what *stats.Int64GaugeHandle, n int) {
	what.Record(m.recorder, int64(n), m.target)
}
