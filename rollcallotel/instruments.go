package rollcallotel

import "go.opentelemetry.io/otel/metric"

// instruments are all metrics of this package. Their names, units and meanings are also in docs/operate.md.
type instruments struct {
	setAge        metric.Float64ObservableGauge
	watches       metric.Int64ObservableUpDownCounter
	instances     metric.Int64ObservableUpDownCounter
	readers       metric.Int64ObservableUpDownCounter
	reads         metric.Int64ObservableCounter
	unreadable    metric.Int64ObservableUpDownCounter
	registrations metric.Int64ObservableUpDownCounter

	changes            metric.Int64Counter
	failures           metric.Int64Counter
	gracePeriods       metric.Int64Counter
	watchOutage        metric.Float64Histogram
	losses             metric.Int64Counter
	registrationOutage metric.Float64Histogram
	attempts           metric.Float64Histogram
	lostEvents         metric.Int64Counter
}

// The boundaries of the histograms, in seconds.
var (
	attemptBounds = []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}
	outageBounds  = []float64{0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600, 14400}
)

func newInstruments(m metric.Meter) (*instruments, error) {
	c := creator{meter: m}
	i := &instruments{
		setAge:        c.gauge("rollcall.watch.set_age", "s", "How long the set of instances may have been out of date; 0 while it is current."),
		watches:       c.upDown("rollcall.watch.state", "{watch}", "Open watches by state."),
		instances:     c.upDown("rollcall.watch.instance.count", "{instance}", "Instances that the watches have, by status."),
		readers:       c.upDown("rollcall.watch.reader.count", "{reader}", "Loops over Watch, and Lookups in progress."),
		reads:         c.observedCounter("rollcall.watch.reads", "{read}", "Answers of the store to watches."),
		unreadable:    c.upDown("rollcall.entry.unreadable.count", "{entry}", "Entries that cannot be read and are left out."),
		registrations: c.upDown("rollcall.registration.count", "{registration}", "Registered instances of this process by state."),

		changes:            c.counter("rollcall.watch.changes", "{change}", "Changes of the sets of instances."),
		failures:           c.counter("rollcall.watch.failures", "{failure}", "Failed reads of watches."),
		gracePeriods:       c.counter("rollcall.watch.grace_periods", "{grace_period}", "Grace periods in which a suspect set is withheld."),
		watchOutage:        c.histogram("rollcall.watch.outage.duration", "How long the set of a watch may have been out of date, when it is current again.", outageBounds),
		losses:             c.counter("rollcall.registration.losses", "{loss}", "Registrations that were lost or replaced."),
		registrationOutage: c.histogram("rollcall.registration.outage.duration", "How long an instance was not registered, when it is registered again.", outageBounds),
		attempts:           c.histogram("rollcall.attempt.duration", "How long calls to the store took, failed ones included.", attemptBounds),
		lostEvents:         c.counter("rollcall.event.lost", "{event}", "Events that were dropped before they were recorded."),
	}
	return i, c.err
}

// creator creates instruments and keeps the first error.
type creator struct {
	meter metric.Meter
	err   error
}

func keep[T any](c *creator) func(T, error) T {
	return func(instrument T, err error) T {
		if c.err == nil {
			c.err = err
		}
		return instrument
	}
}

func (c *creator) gauge(name, unit, text string) metric.Float64ObservableGauge {
	return keep[metric.Float64ObservableGauge](c)(c.meter.Float64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(text)))
}

func (c *creator) upDown(name, unit, text string) metric.Int64ObservableUpDownCounter {
	return keep[metric.Int64ObservableUpDownCounter](c)(c.meter.Int64ObservableUpDownCounter(name, metric.WithUnit(unit), metric.WithDescription(text)))
}

func (c *creator) observedCounter(name, unit, text string) metric.Int64ObservableCounter {
	return keep[metric.Int64ObservableCounter](c)(c.meter.Int64ObservableCounter(name, metric.WithUnit(unit), metric.WithDescription(text)))
}

func (c *creator) counter(name, unit, text string) metric.Int64Counter {
	return keep[metric.Int64Counter](c)(c.meter.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(text)))
}

func (c *creator) histogram(name, text string, bounds []float64) metric.Float64Histogram {
	return keep[metric.Float64Histogram](c)(c.meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(text),
		metric.WithExplicitBucketBoundaries(bounds...)))
}
