// Package rollcallotel makes OpenTelemetry metrics and spans of what a [registry.Registry] watches, has registered and attempts.
//
//	stop, err := rollcallotel.Instrument(reg, rollcallotel.Config{})
//
// The page docs/operate.md lists each metric, what it means, and what to do about it. Package callotel counts calls.
//
// Gauges and the number of reads are taken from [registry.Registry.Snapshot] when a reader collects metrics. Counters, histograms and
// spans are made from the events of [registry.Registry.Observe], on a goroutine of their own. Neither delays a watch, a lookup or a
// registration. A process that has more events than the exporter can take loses the oldest: rollcall.event.lost counts them.
//
// # Attributes
//
//   - service.peer.name is the name of the service: see [Config.MaxServices].
//   - rollcall.registry is the name of the backend and its store: see [registry.Registry.String].
//   - rollcall.state is a state, rollcall.status the status of an instance, and rollcall.op the operation of an attempt.
//   - error.type is the kind of an error: unavailable, denied, invalid, unsupported, replaced, closed, timeout, canceled or _OTHER.
//
// No attribute has the ID or the address of an instance, or the text of an error.
//
// # Spans
//
// Each attempt to register, update or deregister an instance is a span, and so is the first read of each watch and each read that
// failed. The spans are made after the attempt, from its event, so they are roots of their own traces and not children of the span of
// the caller: a watch is shared by many callers, and a registration is renewed without one. They show how long the store took, and
// when it failed.
package rollcallotel
