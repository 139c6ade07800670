package rollcallotel

import (
	"reflect"
	"sync"

	"go.opentelemetry.io/otel/metric"

	"github.com/rollcall-go/rollcall/registry"
)

// instrumentations are all of the process, so that no Registry is recorded twice by one provider.
type instrumentations struct {
	mu         sync.Mutex // no callback locks it, so it may be locked while a provider waits for its callbacks
	shared     map[shareKey]*sharedRecording
	collectors map[metric.MeterProvider]*collector
}

var all = instrumentations{shared: map[shareKey]*sharedRecording{}, collectors: map[metric.MeterProvider]*collector{}}

// shareKey identifies a recording of one Registry by one provider of metrics or spans.
type shareKey struct {
	provider any
	r        *registry.Registry
}

// sharedRecording is a recording that several calls of Instrument share.
type sharedRecording struct {
	users int
	stop  func() error
}

// share returns a function that ends the recording of key, which start begins unless it runs already.
func (a *instrumentations) share(key shareKey, start func() (stop func() error, err error)) (release func() error, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !canBeKey(key.provider) {
		stop, err := start()
		return func() error { a.mu.Lock(); defer a.mu.Unlock(); return stop() }, err
	}
	s := a.shared[key]
	if s == nil {
		stop, err := start()
		if err != nil {
			return nil, err
		}
		s = &sharedRecording{stop: stop}
		a.shared[key] = s
	}
	s.users++
	return func() error { return a.release(key, s) }, nil
}

func (a *instrumentations) release(key shareKey, s *sharedRecording) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s.users--; s.users > 0 {
		return nil
	}
	delete(a.shared, key)
	return s.stop()
}

// canBeKey reports whether a map may have provider as its key. All providers of OpenTelemetry are pointers or empty structs.
func canBeKey(provider any) bool { return reflect.ValueOf(provider).Comparable() }

// addMeter begins to record the metrics of r. a.mu is locked, now and when stop is called.
func (a *instrumentations) addMeter(r *registry.Registry, c Config) (stop func() error, err error) {
	known := canBeKey(c.MeterProvider)
	var to *collector
	if known {
		to = a.collectors[c.MeterProvider]
	}
	if to == nil {
		to, err = newCollector(c.MeterProvider.Meter(scopeName))
		if err != nil {
			return nil, err
		}
		if known {
			a.collectors[c.MeterProvider] = to
		}
	}
	names := &serviceNames{max: c.MaxServices, known: map[string]bool{}}
	to.add(r, names)
	stopEvents := r.Observe((&eventRecorder{to.instruments, r.String(), names}).record)
	return func() error {
		stopEvents()
		if to.remove(r) > 0 {
			return nil
		}
		if known {
			delete(a.collectors, c.MeterProvider)
		}
		return to.end.Unregister()
	}, nil
}
