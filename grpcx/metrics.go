package grpcx

import (
	"sync/atomic"
	"time"

	"google.golang.org/grpc/experimental/stats"
)

// The metrics of a resolver are recorded through the recorder of the channel, which stats/opentelemetry exports like gRPC's own metrics.
// Each has the label grpc.target.
var (
	metricUpdates        = stats.RegisterInt64Count(describe("updates", "{update}", "States that the resolver gave to the channel."))
	metricErrors         = stats.RegisterInt64Count(describe("errors", "{error}", "Errors that the registry reported."))
	metricGracePeriods   = stats.RegisterInt64Count(describe("grace_periods", "{period}", "Grace periods after all instances have left the registry."))
	metricPanics         = stats.RegisterInt64Count(describe("panics", "{panic}", "Times that the panic threshold took effect, so that instances that do not pass were used too."))
	metricInvalidConfigs = stats.RegisterInt64Count(describe("invalid_configs", "{value}", "Values of the service config in the registry that could not be used."))

	metricEndpoints = stats.RegisterInt64Gauge(describe("endpoints", "{endpoint}", "Endpoints in the newest state."))
	metricSubset    = stats.RegisterInt64Gauge(describe("subset_size", "{endpoint}", "Endpoints in the newest state of a channel that uses a subset."))
	metricAge       = stats.RegisterInt64AsyncGauge(describe("set_age", "s", "How long the set may have been out of date; 0 while the registry answers."))
	metricPanic     = stats.RegisterInt64AsyncGauge(describe("panic_active", "{channel}", "1 while the panic threshold is in effect, so that instances that do not pass are used too; otherwise 0."))
)

func describe(name, unit, text string) stats.MetricDescriptor {
	return stats.MetricDescriptor{
		Name: "rollcall.resolver." + name, Description: text, Unit: unit, Labels: []string{"grpc.target"}, Default: true,
	}
}

// meter records for one channel.
type meter struct {
	recorder  stats.MetricsRecorder
	target    string
	since     atomic.Int64 // when the registry stopped answering, as time.Time.UnixNano; 0 while it answers
	panicking atomic.Bool  // the panic threshold is in effect
	end       func()
}

// newMeter returns a meter, which the caller must close. r may be nil.
func newMeter(r stats.MetricsRecorder, target string) *meter {
	if r == nil {
		r = stats.UnimplementedMetricsRecorder{}
	}
	m := &meter{recorder: r, target: target, end: func() {}}
	m.setStale(true) // no set is known yet
	if end := r.RegisterAsyncReporter(stats.AsyncMetricReporterFunc(m.report), metricAge, metricPanic); end != nil {
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
	active := int64(0)
	if m.panicking.Load() {
		active = 1
	}
	metricPanic.Record(r, active, m.target)
	return nil
}

// setStale records whether the set may be out of date from now on.
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
