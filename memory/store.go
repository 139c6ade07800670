package memory

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// store has the entries of all services, and the values of all keys. It has no goroutine: the timers of leases, and its callers, do the work.
type store struct {
	name string

	mu       sync.Mutex
	services map[string]*service // if they have entries or sources
	values   values
}

// service is what the store knows of one service.
type service struct {
	name     string
	entries  map[string]entry // by ID
	sources  int              // how many are open; they compare revisions, so the service stays for as long as there is one
	revision int              // counts the changes of entries
	set      []*registry.Instance
	changed  chan struct{} // closed at the next change; nil while no source waits
	departed []departure   // the newest, in order; empty while there is no source
}

// departure is an instance that its owner deregistered.
type departure struct {
	id       string
	revision int // of the first set without it
	at       time.Time
}

// A source reads departures with its next set, which many may leave before. So a service remembers the newest maxDepartures, and
// all that are younger than minDepartureMemory.
const (
	maxDepartures      = 1000
	minDepartureMemory = 10 * time.Second
)

// entry is a registered instance and its lease. The instance is never changed: all readers share it.
type entry struct {
	in    *registry.Instance
	lease *lease
}

func newStore(name string) *store {
	return &store{name: name, services: map[string]*service{},
		values: values{byKey: map[string]*registry.Value{}, changed: map[string]chan struct{}{}}}
}

// service returns the service of that name. It makes one if there is none. s.mu is locked.
func (s *store) service(name string) *service {
	v := s.services[name]
	if v == nil {
		v = &service{name: name, entries: map[string]entry{}}
		s.services[name] = v
	}
	return v
}

// tidy removes v if nothing refers to it. s.mu is locked.
func (s *store) tidy(v *service) {
	if len(v.entries) == 0 && v.sources == 0 {
		delete(s.services, v.name)
	}
}

// put replaces the entry of l's instance. The same content keeps its pointer, and is no change. The store's mutex is locked.
func (v *service) put(in *registry.Instance, l *lease) {
	if old, ok := v.entries[in.ID]; ok && old.in.Equal(in) {
		v.entries[in.ID] = entry{old.in, l}
		return
	}
	v.entries[in.ID] = entry{in.Clone(), l}
	v.touch()
}

// touch counts a change of the entries and wakes the sources that wait for one. The store's mutex is locked.
func (v *service) touch() {
	v.revision++
	v.set = nil
	if v.changed != nil {
		close(v.changed)
		v.changed = nil
	}
}

// snapshot returns the set, which all readers share until the next change. The store's mutex is locked.
func (v *service) snapshot() []*registry.Instance {
	if v.set == nil {
		v.set = make([]*registry.Instance, 0, len(v.entries))
		for _, e := range v.entries {
			v.set = append(v.set, e.in)
		}
		slices.SortFunc(v.set, func(a, b *registry.Instance) int { return cmp.Compare(a.ID, b.ID) })
	}
	return v.set
}

// register writes in and returns its lease. The lease that had the same ID ends in the same step.
func (s *store) register(c *client, in *registry.Instance) *lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.service(in.Service)
	if old, ok := v.entries[in.ID]; ok {
		old.lease.end(registry.ErrReplaced)
	}
	l := &lease{client: c, service: in.Service, id: in.ID, deadline: time.Now().Add(c.ttl), ended: make(chan struct{})}
	l.timer = time.AfterFunc(c.ttl, func() { s.expire(l) })
	v.put(in, l)
	return l
}

// expire removes the entry of a lease that was not renewed in time.
func (s *store) expire(l *lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.over || time.Now().Before(l.deadline) { // the timer fired while a renewal was on its way; that has set it anew
		return
	}
	s.remove(l, fmt.Errorf("%w: the lease expired", registry.ErrUnavailable))
}

// state tells whether l is over, and why.
func (s *store) state(l *lease) (over bool, why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return l.over, l.why
}

// renew gives l another TTL, unless it is over.
func (s *store) renew(l *lease) (over bool, why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !l.over {
		l.deadline = time.Now().Add(l.client.ttl)
		l.timer.Reset(l.client.ttl)
	}
	return l.over, l.why
}

// update replaces the content of l's entry. It does not renew it.
func (s *store) update(l *lease, in *registry.Instance) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !l.over:
		s.service(l.service).put(in, l)
		return nil
	case l.why == nil:
		return fmt.Errorf("%w: the lease was released", registry.ErrUnavailable)
	}
	return l.why
}

// release removes l's entry, unless it is gone or another's already. Its owner leaves on purpose.
func (s *store) release(l *lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.over {
		return
	}
	v := s.services[l.service]
	s.remove(l, nil)
	if v.sources > 0 {
		now := time.Now()
		v.departed = append(v.departed, departure{l.id, v.revision, now})
		for len(v.departed) > maxDepartures && now.Sub(v.departed[0].at) >= minDepartureMemory {
			v.departed = v.departed[1:]
		}
	}
}

// departedSince returns the IDs of the instances that were released after that revision.
func (s *store) departedSince(v *service, revision int) (ids []string) {
	if revision == nothing {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range slices.Backward(v.departed) {
		if d.revision <= revision {
			break
		}
		ids = append(ids, d.id)
	}
	return ids
}

// revision returns the number of changes of a service.
func (s *store) revision(v *service) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return v.revision
}

// expireNow removes an entry without its owner.
func (s *store) expireNow(service, id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.find(service, id)
	if ok {
		s.remove(e.lease, fmt.Errorf("%w: the store has lost the entry", registry.ErrUnavailable))
	}
	return ok
}

// setStatus changes the status of an entry without its owner.
func (s *store) setStatus(service, id string, status registry.Status) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.find(service, id)
	if ok {
		in := *e.in
		in.Status = status
		s.services[service].put(&in, e.lease)
	}
	return ok
}

// find returns an entry. s.mu is locked.
func (s *store) find(service, id string) (entry, bool) {
	v := s.services[service]
	if v == nil {
		return entry{}, false
	}
	e, ok := v.entries[id]
	return e, ok
}

// remove ends l and removes its entry. s.mu is locked, and l is not over.
func (s *store) remove(l *lease, why error) {
	l.end(why)
	v := s.services[l.service]
	delete(v.entries, l.id)
	v.touch()
	s.tidy(v)
}

// isReplaced reports whether another lease than l has the entry.
func (s *store) isReplaced(l *lease) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.find(l.service, l.id)
	return ok && e.lease != l
}

// names returns the services that have entries.
func (s *store) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Sorted(maps.Keys(s.services)), func(name string) bool {
		return len(s.services[name].entries) == 0
	})
}

// open returns a service for a source, which is counted until close.
func (s *store) open(name string) *service {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.service(name)
	v.sources++
	return v
}

func (s *store) close(v *service) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v.sources--
	if v.sources == 0 {
		v.departed = nil
	}
	s.tidy(v)
}

// since returns the set and its revision if that is another than seen, and otherwise a channel that closes at the next change. A source
// compares revisions instead of receiving events, so it can miss nothing and needs no queue.
func (s *store) since(v *service, seen int) (set []*registry.Instance, revision int, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v.revision != seen {
		return v.snapshot(), v.revision, nil
	}
	if v.changed == nil {
		v.changed = make(chan struct{})
	}
	return nil, seen, v.changed
}
