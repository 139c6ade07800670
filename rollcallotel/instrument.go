package rollcallotel

import (
	"fmt"
	"sync"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/rollcall-go/rollcall/internal/oneline"
	"github.com/rollcall-go/rollcall/registry"
)

// scopeName is the name of the instrumentation scope of all metrics and spans.
const scopeName = "github.com/rollcall-go/rollcall/rollcallotel"

// DefaultMaxServices is the default of [Config.MaxServices].
const DefaultMaxServices = 200

// Config has the providers that take metrics and spans. The zero value works.
type Config struct {
	// MeterProvider takes the metrics. Default: the global one, [otel.GetMeterProvider].
	MeterProvider metric.MeterProvider
	// TracerProvider takes the spans. Default: the global one, [otel.GetTracerProvider].
	TracerProvider trace.TracerProvider
	// MaxServices is how many services have metrics with their own name as the attribute service.peer.name. The metrics of all further
	// services are added up under the name "_other"; an age there is the largest one. The first services to be seen keep their names.
	// Default: [DefaultMaxServices].
	MaxServices int
}

// Instrument records what r does from now on, until stop is called or r is closed. It does not block, and asks no store.
//
// The error wraps [registry.ErrInvalid] if r is nil or MaxServices is negative. Otherwise it comes from the MeterProvider, and nothing
// is recorded.
//
// Instrumenting one Registry again, with the same provider, records nothing twice: MaxServices of the first call counts, and the
// recording goes on until both have been stopped. Several Registries of one name are added up.
//
// stop ends the recording and returns the error of the MeterProvider, if any. It does not block on the store. Calling it again does
// nothing and returns the same.
func Instrument(r *registry.Registry, c Config) (stop func() error, err error) {
	switch {
	case r == nil:
		return nil, fmt.Errorf("rollcall: instrument: %w: the Registry is nil", registry.ErrInvalid)
	case c.MaxServices < 0:
		return nil, fmt.Errorf("rollcall: instrument: %w: MaxServices is %d, must not be negative", registry.ErrInvalid, c.MaxServices)
	}
	if c.MaxServices == 0 {
		c.MaxServices = DefaultMaxServices
	}
	if c.MeterProvider == nil {
		c.MeterProvider = otel.GetMeterProvider()
	}
	if c.TracerProvider == nil {
		c.TracerProvider = otel.GetTracerProvider()
	}
	stopMetrics, err := all.share(shareKey{c.MeterProvider, r}, func() (func() error, error) { return all.addMeter(r, c) })
	if err != nil {
		return nil, fmt.Errorf("rollcall: instrument: %w", err)
	}
	stopSpans, err := all.share(shareKey{c.TracerProvider, r}, func() (func() error, error) { return addTracer(r, c.TracerProvider), nil })
	if err != nil {
		return nil, oneline.Join(fmt.Errorf("rollcall: instrument: %w", err), stopMetrics())
	}
	return sync.OnceValue(func() error { return oneline.Join(stopMetrics(), stopSpans()) }), nil
}
