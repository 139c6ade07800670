package rollcallotel

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/rollcall-go/rollcall/registry"
)

// eventRecorder counts the events of one Registry.
type eventRecorder struct {
	*instruments
	registry string
	services *serviceNames
}

// record runs on the goroutine of the observer.
func (r *eventRecorder) record(e registry.Event) {
	ctx := context.Background()
	if e.Lost > 0 {
		r.lostEvents.Add(ctx, int64(e.Lost), metric.WithAttributes(keyRegistry.String(r.registry)))
	}
	switch e.Kind {
	case registry.SetChanged:
		r.changes.Add(ctx, 1, r.of(e, nil))
	case registry.SetWithheld:
		r.gracePeriods.Add(ctx, 1, r.of(e, nil))
	case registry.WatchRecovered:
		r.watchOutage.Record(ctx, e.Took.Seconds(), r.of(e, nil))
	case registry.RegistrationLost:
		r.losses.Add(ctx, 1, r.of(e, e.Err))
	case registry.Reregistered:
		r.registrationOutage.Record(ctx, e.Took.Seconds(), r.of(e, nil))
	case registry.Attempted:
		r.attempted(ctx, e)
	}
}

// attempted records an attempt. Its duration has no attribute for the service: it is a property of the store, and a histogram for each
// service and operation would be thousands of series.
func (r *eventRecorder) attempted(ctx context.Context, e registry.Event) {
	attrs := withError(e.Err, keyRegistry.String(r.registry), keyOp.String(e.Op))
	r.attempts.Record(ctx, e.Took.Seconds(), metric.WithAttributes(attrs...))
	if e.Op == "read" && e.Err != nil {
		r.failures.Add(ctx, 1, r.of(e, e.Err))
	}
}

// of returns the attributes of e, with the kind of err unless that is nil.
func (r *eventRecorder) of(e registry.Event, err error) metric.MeasurementOption {
	return metric.WithAttributes(withError(err, r.attributes(e.Service)...)...)
}

func (r *eventRecorder) attributes(service string) []attribute.KeyValue {
	return []attribute.KeyValue{keyRegistry.String(r.registry), keyService.String(r.services.of(service))}
}
