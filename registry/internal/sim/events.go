package sim

import (
	"errors"
	"maps"
	"slices"

	"github.com/rollcall-go/rollcall/registry"
)

// observed is what the observer of one process was told.
type observed struct {
	sets       map[string]map[string]*registry.Instance // by service and ID
	registered map[entryKey]int                         // how often
	gone       map[entryKey]int                         // how often it was deregistered
	lost       map[entryKey]error                       // why it is lost, if it was registered once
}

// observes checks one event: together the events tell each change once.
func (m *model) observes(p *process, e registry.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o := m.observed[p]
	if o == nil {
		o = &observed{sets: map[string]map[string]*registry.Instance{}, registered: map[entryKey]int{}, gone: map[entryKey]int{}, lost: map[entryKey]error{}}
		m.observed[p] = o
	}
	if m.tracing && e.Kind != registry.Attempted {
		m.traceLocked("p%d event %v %s/%s added %s removed %s changed %s: %v", p.index, e.Kind, e.Service, e.ID, namesOf(e.Added), namesOf(e.Removed),
			namesOf(e.Changed), e.Err)
	}
	key := entryKey{e.Service, e.ID}
	switch e.Kind {
	case registry.SetChanged:
		m.observesSet(p, o, e)
	case registry.Registered:
		o.registered[key]++
	case registry.Deregistered:
		if o.gone[key]++; o.gone[key] > o.registered[key] {
			m.violated("an observer sees each change once", "p%d: %v was deregistered once more than it was registered", p.index, key)
		}
	case registry.RegistrationLost:
		m.observesLoss(p, o, key, e.Err)
	case registry.Reregistered:
		if o.registered[key] == 1 && o.lost[key] == nil {
			m.violated("an observer sees each change once", "p%d: %v is registered again, and was not lost", p.index, key)
		}
		delete(o.lost, key)
	}
}

// observesLoss notes a loss. An entry that is lost may be replaced after that, also more than once. m.mu is locked.
func (m *model) observesLoss(p *process, o *observed, key entryKey, err error) {
	before := o.lost[key]
	if o.registered[key] == 1 && before != nil && !errors.Is(err, registry.ErrReplaced) {
		m.violated("an observer sees each change once", "p%d: %v is lost twice: %v, and then %v", p.index, key, before, err)
	}
	o.lost[key] = err
}

// observesSet follows the changes of a set. The first event of a new watch has the whole set. m.mu is locked.
func (m *model) observesSet(p *process, o *observed, e registry.Event) {
	set := o.sets[e.Service]
	if set == nil || len(e.Removed)+len(e.Changed) == 0 && len(e.Added) == e.Instances {
		set = map[string]*registry.Instance{}
		o.sets[e.Service] = set
	}
	wrong := len(e.Added)+len(e.Removed)+len(e.Changed) == 0 && e.Instances > 0
	for _, in := range e.Removed {
		wrong = wrong || set[in.ID] == nil
		delete(set, in.ID)
	}
	for _, in := range e.Added {
		wrong = wrong || set[in.ID] != nil
		set[in.ID] = in
	}
	for _, in := range e.Changed {
		wrong = wrong || set[in.ID] == nil || set[in.ID].Equal(in)
		set[in.ID] = in
	}
	if wrong || len(set) != e.Instances || e.Lost > 0 {
		m.violated("an observer sees each change once", "p%d %s: the event adds %s, removes %s, changes %s, and then there are %d; the events before and this one give %v",
			p.index, e.Service, namesOf(e.Added), namesOf(e.Removed), namesOf(e.Changed), e.Instances, slices.Sorted(maps.Keys(set)))
	}
}

// checkObservedAtRest checks that the events give the sets that the watches have. m.mu is locked.
func (m *model) checkObservedAtRest(p *process) {
	o := m.observed[p]
	if o == nil || p.closing || p.crashed {
		return
	}
	for _, w := range p.registry.Snapshot().Watches {
		set := o.sets[w.Query.Service]
		same := len(set) == len(w.Instances)
		for _, in := range w.Instances {
			same = same && set[in.ID] != nil && set[in.ID].Equal(in)
		}
		if !same {
			m.violated("an observer sees each change once", "p%d %s: the watch has %s, and the events give %v", p.index, w.Query.Service,
				namesOf(w.Instances), slices.Sorted(maps.Keys(set)))
		}
	}
	for _, h := range m.handles {
		if err := o.lost[h.key]; h.process == p && h.isLive() && o.registered[h.key] == 1 && (err == nil) != (h.registration.Err() == nil) {
			m.violated("an observer sees each change once", "p%d: the last event of %v has error %v, and Err returns %v", p.index, h.key, err, h.registration.Err())
		}
	}
}
