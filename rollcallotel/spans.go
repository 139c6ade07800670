package rollcallotel

import (
	"context"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/rollcallotel/internal/errortype"
)

// addTracer begins to make spans of the attempts of r.
func addTracer(r *registry.Registry, p trace.TracerProvider) (stop func() error) {
	s := &spanRecorder{p.Tracer(scopeName), r.String()}
	stopEvents := r.Observe(s.record)
	return func() error { stopEvents(); return nil }
}

// spanRecorder makes spans of the attempts of one Registry.
type spanRecorder struct {
	tracer   trace.Tracer
	registry string
}

// spanNames are the names of the spans by operation. Renewals are too frequent for spans.
var spanNames = map[string]string{
	"register": "rollcall.register", "update": "rollcall.update", "deregister": "rollcall.deregister", "read": "rollcall.read",
}

// record runs on the goroutine of the observer.
func (s *spanRecorder) record(e registry.Event) {
	name, ok := spanNames[e.Op]
	if e.Kind != registry.Attempted || !ok {
		return
	}
	_, span := s.tracer.Start(context.Background(), name, trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindClient),
		trace.WithTimestamp(e.Time.Add(-e.Took)),
		trace.WithAttributes(withError(e.Err, keyRegistry.String(s.registry), keyService.String(e.Service))...))
	if e.Err != nil {
		span.SetStatus(codes.Error, errortype.Of(e.Err))
	}
	span.End(trace.WithTimestamp(e.Time))
}
