package rollcallotel

import (
	"encoding/json"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/rollcall-go/rollcall/registry"
)

// The values of rollcall.state for watches.
const (
	stateCurrent  = "current"  // the set is what the registry says
	stateStale    = "stale"    // the set is the last good one, because the registry does not answer
	stateWithheld = "withheld" // the set is the last good one, because the newest is suspect
	stateDisk     = "disk"     // the set was saved by an earlier process
	stateUnknown  = "unknown"  // there is no set yet
)

// The values of rollcall.state for registrations.
const (
	stateRegistered = "registered"
	stateLost       = "lost"
	stateReplaced   = "replaced"
	stateDenied     = "denied"
)

// seriesKey has the attributes that the series of a service have in common.
type seriesKey struct{ registry, service string }

func (k seriesKey) attributes(more ...attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributes(append(more, keyRegistry.String(k.registry), keyService.String(k.service))...)
}

// entryKey identifies an instance or an entry, which several watches may have.
type entryKey struct{ registry, service, entry string }

// totals are the sums of the snapshots of one collection.
type totals struct {
	watched    map[seriesKey]*watchTotals
	registered map[seriesKey]map[string]int64 // by state
	instances  map[entryKey]bool              // that were counted
	unreadable map[entryKey]bool              // that were counted
}

// watchTotals are the sums of the watches of one service, or of all other services.
type watchTotals struct {
	age        time.Duration // the largest
	states     map[string]int64
	instances  map[registry.Status]int64
	readers    int64
	unreadable int64
}

func newTotals() *totals {
	return &totals{
		watched: map[seriesKey]*watchTotals{}, registered: map[seriesKey]map[string]int64{},
		instances: map[entryKey]bool{}, unreadable: map[entryKey]bool{},
	}
}

func (t *totals) add(s *registry.Snapshot, services *serviceNames) {
	for i := range s.Watches {
		w := &s.Watches[i]
		t.addWatch(seriesKey{s.Registry, services.of(w.Query.Service)}, w, s.Time)
	}
	for i := range s.Registrations {
		g := &s.Registrations[i]
		state := registrationState(g.Err)
		if state == "" {
			continue
		}
		key := seriesKey{s.Registry, services.of(g.Instance.Service)}
		if t.registered[key] == nil {
			t.registered[key] = map[string]int64{}
		}
		t.registered[key][state]++
	}
}

func (t *totals) addWatch(key seriesKey, w *registry.WatchState, now time.Time) {
	sum := t.watched[key]
	if sum == nil {
		sum = &watchTotals{states: map[string]int64{}, instances: map[registry.Status]int64{}}
		t.watched[key] = sum
	}
	if !w.StaleSince.IsZero() {
		sum.age = max(sum.age, now.Sub(w.StaleSince))
	}
	sum.states[watchState(w)]++
	sum.readers += int64(w.Readers)
	for _, in := range w.Instances {
		if isNew(t.instances, entryKey{key.registry, w.Query.Service, in.ID}) {
			sum.instances[in.Status]++
		}
	}
	for _, u := range w.Unreadable {
		if isNew(t.unreadable, entryKey{key.registry, w.Query.Service, u.Entry}) {
			sum.unreadable++
		}
	}
}

// isNew reports whether key is not in seen, and adds it.
func isNew(seen map[entryKey]bool, key entryKey) bool {
	if seen[key] {
		return false
	}
	seen[key] = true
	return true
}

// observe reports the sums. States and statuses without a watch or instance are left out, except for passing: an alert for a service
// without a passing instance needs the 0.
func (t *totals) observe(i *instruments, o metric.Observer) {
	for key, sum := range t.watched {
		o.ObserveFloat64(i.setAge, sum.age.Seconds(), key.attributes())
		o.ObserveInt64(i.readers, sum.readers, key.attributes())
		o.ObserveInt64(i.unreadable, sum.unreadable, key.attributes())
		for state, n := range sum.states {
			o.ObserveInt64(i.watches, n, key.attributes(keyState.String(state)))
		}
		sum.instances[registry.Passing] += 0
		for status, n := range sum.instances {
			o.ObserveInt64(i.instances, n, key.attributes(keyStatus.String(status.String())))
		}
	}
	for key, states := range t.registered {
		for state, n := range states {
			o.ObserveInt64(i.registrations, n, key.attributes(keyState.String(state)))
		}
	}
}

// watchState returns the value of rollcall.state for w.
func watchState(w *registry.WatchState) string {
	switch {
	case !w.Known:
		return stateUnknown
	case w.Origin == registry.FromDisk:
		return stateDisk
	case w.Withheld:
		return stateWithheld
	case w.Err != nil:
		return stateStale
	}
	return stateCurrent
}

// registrationState returns the value of rollcall.state for a registration with the error err, or "" after Close. A registration whose
// newest content is not written yet is registered.
func registrationState(err error) string {
	var e *registry.Error
	switch {
	case err == nil, errors.As(err, &e) && e.Op == "update":
		return stateRegistered
	case errors.Is(err, registry.ErrClosed):
		return ""
	case errors.Is(err, registry.ErrReplaced):
		return stateReplaced
	case errors.Is(err, registry.ErrDenied):
		return stateDenied
	}
	return stateLost
}

// queryText returns the same text for a watch each time.
func queryText(q registry.Query) string {
	b, err := json.Marshal(q)
	if err != nil {
		panic(err) // strings and a bool always marshal
	}
	return string(b)
}
