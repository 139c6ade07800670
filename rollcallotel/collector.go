package rollcallotel

import (
	"context"
	"sync"

	"go.opentelemetry.io/otel/metric"

	"github.com/rollcall-go/rollcall/registry"
)

// collector observes the instrumented Registries of one MeterProvider. One callback does it for all, because the sums of Registries of
// one name share their attributes.
type collector struct {
	*instruments
	end metric.Registration

	mu      sync.Mutex
	sources map[*registry.Registry]*source
	reads   map[seriesKey]uint64 // a counter must not fall when a watch ends
}

// source is what a collector knows of one Registry.
type source struct {
	services *serviceNames
	reads    map[string]uint64 // of each open watch, by query, when they were added to collector.reads
}

func newCollector(m metric.Meter) (*collector, error) {
	i, err := newInstruments(m)
	if err != nil {
		return nil, err
	}
	c := &collector{instruments: i, sources: map[*registry.Registry]*source{}, reads: map[seriesKey]uint64{}}
	c.end, err = m.RegisterCallback(c.observe, i.setAge, i.watches, i.instances, i.readers, i.reads, i.unreadable, i.registrations)
	return c, err
}

func (c *collector) add(r *registry.Registry, services *serviceNames) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sources[r] = &source{services: services}
}

// remove returns how many Registries are left.
func (c *collector) remove(r *registry.Registry) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.sources, r)
	return len(c.sources)
}

// observe runs when metrics are collected.
func (c *collector) observe(_ context.Context, o metric.Observer) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := newTotals()
	for r, s := range c.sources {
		snapshot := r.Snapshot()
		t.add(&snapshot, s.services)
		c.addReads(&snapshot, s)
	}
	t.observe(c.instruments, o)
	for key, n := range c.reads {
		o.ObserveInt64(c.instruments.reads, int64(n), key.attributes())
	}
	return nil
}

// addReads adds the reads since the last collection. What a watch has read between the last collection and its end is not counted.
func (c *collector) addReads(snapshot *registry.Snapshot, s *source) {
	now := make(map[string]uint64, len(snapshot.Watches))
	for i := range snapshot.Watches {
		w := &snapshot.Watches[i]
		query, before := queryText(w.Query), uint64(0)
		if before = s.reads[query]; w.Reads < before {
			before = 0 // the watch ended, and was opened again
		}
		now[query] = w.Reads
		c.reads[seriesKey{snapshot.Registry, s.services.of(w.Query.Service)}] += w.Reads - before
	}
	s.reads = now
}
