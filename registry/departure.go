package registry

import (
	"cmp"
	"errors"
	"slices"
	"time"
)

// A departure is an instance that leaves on purpose: it is deregistered, or in Maintenance before it disappears. A departure does not make
// a set suspect.

// departureMemory is how long a reported departure counts while its instance is still in the set.
const departureMemory = 10 * time.Second

// noteDeparture records that an instance has left on purpose, if it is in the set. f.mu is locked.
func (f *feed) noteDeparture(id string, now time.Time) {
	if _, found := slices.BinarySearchFunc(f.state.all.set, id, func(in *Instance, id string) int { return cmp.Compare(in.ID, id) }); !found {
		return
	}
	if f.shrink.departed == nil {
		f.shrink.departed = map[string]time.Time{}
	}
	f.shrink.departed[id] = now
}

// recordDeparture tells all feeds of a service that this process takes an instance out of the set on purpose: it deregisters the instance,
// or makes it stop passing.
func (r *Registry) recordDeparture(service, id string) {
	for _, f := range r.feedsOf(service) {
		f.recordDeparture(id)
	}
}

func (f *feed) recordDeparture(id string) {
	if f.endsGrace(id) {
		f.r.startRead(f.save)
	}
}

// endsGrace records a departure. It reports whether a withheld set is published because of it.
func (f *feed) endsGrace(id string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	f.noteDeparture(id, now)
	g := f.shrink.grace
	return g != nil && f.ctx.Err() == nil && f.consider(g.set, f.shows(g.set), now)
}

// reportDeparture tells the feeds that g's instance leaves on purpose, unless the entry belongs to another registration.
func (g *registration) reportDeparture() {
	g.mu.Lock()
	replaced := errors.Is(g.err, ErrReplaced)
	g.mu.Unlock()
	if !replaced {
		g.r.recordDeparture(g.service, g.id)
	}
}

// findLeavers fills in the instances that left on purpose between the state and set. Both are sorted by ID. f.mu is locked.
func (f *feed) findLeavers(v *verdict, set []*Instance, now time.Time) {
	j := 0
	for _, o := range f.state.all.set {
		for j < len(set) && set[j].ID < o.ID {
			j++
		}
		var n *Instance
		if j < len(set) && set[j].ID == o.ID {
			n = set[j]
		}
		at, reported := f.shrink.departed[o.ID]
		expired := reported && now.Sub(at) > departureMemory
		switch {
		case n == nil && (reported && !expired || o.Status == Maintenance):
			v.left.all++
			if o.passes() {
				v.left.passing++
			}
		case n != nil && o.passes() && !n.passes() && (reported && !expired || n.Status == Maintenance):
			v.left.passing++
		}
		if reported && (expired || n != o) { // an instance that was registered again is another
			v.obsolete = append(v.obsolete, o.ID)
		}
	}
}
