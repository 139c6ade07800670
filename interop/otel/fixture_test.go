// Package otel_test tests package rollcallotel with the SDK of OpenTelemetry.
package otel_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	tracesdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/rollcallotel"
)

// fixture has a client of a store in memory, another client of it, and providers that record.
type fixture struct {
	*testing.T
	reg, other *memory.Registry
	reader     *metric.ManualReader
	meter      *metric.MeterProvider
	spans      *tracetest.InMemoryExporter
	tracer     *tracesdk.TracerProvider
}

// inBubble runs test with fake time.
func inBubble(t *testing.T, test func(f *fixture)) {
	bubble.Test(t, func(t *testing.T) {
		f := &fixture{T: t, reader: metric.NewManualReader(), spans: tracetest.NewInMemoryExporter()}
		f.meter = metric.NewMeterProvider(metric.WithReader(f.reader))
		f.tracer = tracesdk.NewTracerProvider(tracesdk.WithSyncer(f.spans))
		f.other = watchtest.NewMemory(t, registry.Options{})
		f.reg = watchtest.NewMemoryClient(t, f.other)
		test(f)
	})
}

// instrument instruments f.reg. The returned function stops that, and fails the test if that fails.
func (f *fixture) instrument(c rollcallotel.Config) (stop func()) {
	f.Helper()
	return f.instrumentRegistry(f.reg, c)
}

func (f *fixture) instrumentRegistry(r *memory.Registry, c rollcallotel.Config) (stop func()) {
	f.Helper()
	if c.MeterProvider == nil {
		c.MeterProvider = f.meter
	}
	if c.TracerProvider == nil {
		c.TracerProvider = f.tracer
	}
	end, err := rollcallotel.Instrument(r.Registry, c)
	if err != nil {
		f.Fatal(err)
	}
	return func() {
		if err := end(); err != nil {
			f.Error(err)
		}
	}
}

// register registers an instance with r.
func (f *fixture) register(r registry.Registrar, service, id string) registry.Registration {
	f.Helper()
	return watchtest.Register(f, r, registry.Instance{Service: service, ID: id, Address: "10.9.8.7:80"})
}

// watch starts a watch of a service, and waits until it has a set or an error.
func (f *fixture) watch(service string) *watchtest.Watcher {
	w := watchtest.Watch(f, f.reg, registry.Query{Service: service})
	synctest.Wait()
	return w
}

// series are values by name and attributes, such as rollcall.watch.reads{greeter}. See [fixture.read].
type series map[string]float64

// collect collects all metrics when the bubble is idle. See [fixture.read].
func (f *fixture) collect() series {
	f.Helper()
	synctest.Wait()
	return f.read()
}

// read collects all metrics. A key has the name, the service, and the values of all other attributes but rollcall.registry, sorted by
// their keys. The value of a histogram is the number of its values.
func (f *fixture) read() series {
	f.Helper()
	all := series{}
	for _, m := range f.metrics() {
		switch d := m.Data.(type) {
		case metricdata.Sum[int64]:
			for _, p := range d.DataPoints {
				all[key(m.Name, p.Attributes)] = float64(p.Value)
			}
		case metricdata.Gauge[float64]:
			for _, p := range d.DataPoints {
				all[key(m.Name, p.Attributes)] = p.Value
			}
		case metricdata.Histogram[float64]:
			for _, p := range d.DataPoints {
				all[key(m.Name, p.Attributes)] = float64(p.Count)
			}
		default:
			f.Errorf("%s has data of type %T", m.Name, m.Data)
		}
	}
	return all
}

func (f *fixture) metrics() (all []metricdata.Metrics) {
	f.Helper()
	var data metricdata.ResourceMetrics
	if err := f.reader.Collect(f.Context(), &data); err != nil {
		f.Fatal(err)
	}
	for _, s := range data.ScopeMetrics {
		all = append(all, s.Metrics...)
	}
	return all
}

func key(name string, attrs attribute.Set) string {
	var values []string
	for _, a := range attrs.ToSlice() { // sorted by key
		switch a.Key {
		case "rollcall.registry":
		case "service.peer.name":
			values = slices.Insert(values, 0, a.Value.Emit())
		default:
			values = append(values, a.Value.Emit())
		}
	}
	return fmt.Sprintf("%s{%s}", strings.TrimPrefix(name, "rollcall."), strings.Join(values, ","))
}

// expect compares the values of these series, of which 0 means that there is none or that it is 0.
func (f *fixture) expect(want series) {
	f.Helper()
	got := f.collect()
	for k, v := range want {
		if got[k] != v {
			f.Errorf("%s is %v, want %v", k, got[k], v)
		}
	}
	if f.Failed() {
		f.Fatalf("the series are %v", got)
	}
}

// values returns the value of an attribute in all series of all metrics.
func (f *fixture) values(attr attribute.Key) (all []string) {
	f.Helper()
	add := func(s attribute.Set) {
		if v, ok := s.Value(attr); ok && !slices.Contains(all, v.Emit()) {
			all = append(all, v.Emit())
		}
	}
	for _, m := range f.metrics() {
		switch d := m.Data.(type) {
		case metricdata.Sum[int64]:
			for _, p := range d.DataPoints {
				add(p.Attributes)
			}
		case metricdata.Gauge[float64]:
			for _, p := range d.DataPoints {
				add(p.Attributes)
			}
		case metricdata.Histogram[float64]:
			for _, p := range d.DataPoints {
				add(p.Attributes)
			}
		}
	}
	slices.Sort(all)
	return all
}

var errSecret = errors.New("dial tcp 10.9.8.7:80: connection refused")
