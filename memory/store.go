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

// store holds the entries of all services. It has no goroutine: the timers of leases, and its callers, do the work.
type store struct {
	name string

	mu       sync.Mutex
	services map[string]*service // those that have entries or followers
}

// service is what the store knows of one service.
type service struct {
	name      string
	entries   map[string]entry // by ID
	followers int              // open sources; they compare revisions, so the service stays for as long as there is one
	revision  int              // counts the changes of entries
	set       []*registry.Instance
	changed   chan struct{} // closed at the next change; nil while nobody waits
}

// entry is an announced instance and what holds it. The instance is never changed: all readers share it.
type entry struct {
	in    *registry.Instance
	lease *lease
}

func newStore(name string) *store {
	return &store{name: name, services: map[string]*service{}}
}

// service returns the service of that name, made where there is none. s.mu is held.
func (s *store) service(name string) *service {
	v := s.services[name]
	if v == nil {
		v = &service{name: name, entries: map[string]entry{}}
		s.services[name] = v
	}
	return v
}

// tidy forgets v where nothing refers to it. s.mu is held.
func (s *store) tidy(v *service) {
	if len(v.entries) == 0 && v.followers == 0 {
		delete(s.services, v.name)
	}
}

// put replaces the entry of l's instance. What is the same keeps its pointer, and is no change. The store's mutex is held.
func (v *service) put(in *registry.Instance, l *lease) {
	if old, ok := v.entries[in.ID]; ok && old.in.Equal(in) {
		v.entries[in.ID] = entry{old.in, l}
		return
	}
	v.entries[in.ID] = entry{in.Clone(), l}
	v.touch()
}

// touch notes a change of the entries and wakes all that wait for one. The store's mutex is held.
func (v *service) touch() {
	v.revision++
	v.set = nil
	if v.changed != nil {
		close(v.changed)
		v.changed = nil
	}
}

// snapshot returns the set, which all readers share until the next change. The store's mutex is held.
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

// announce writes in and returns the lease that holds it. A lease that held the same ID loses it in the same step.
func (s *store) announce(c *client, in *registry.Instance) *lease {
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

// release removes l's entry, unless it is gone or another's already.
func (s *store) release(l *lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !l.over {
		s.remove(l, nil)
	}
}

// lose removes an entry behind its owner's back.
func (s *store) lose(service, id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.find(service, id)
	if ok {
		s.remove(e.lease, fmt.Errorf("%w: the store has lost the entry", registry.ErrUnavailable))
	}
	return ok
}

// setStatus changes an entry behind its owner's back.
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

// find returns an entry. s.mu is held.
func (s *store) find(service, id string) (entry, bool) {
	v := s.services[service]
	if v == nil {
		return entry{}, false
	}
	e, ok := v.entries[id]
	return e, ok
}

// remove ends l and removes its entry. s.mu is held, and l is not over.
func (s *store) remove(l *lease, why error) {
	l.end(why)
	v := s.services[l.service]
	delete(v.entries, l.id)
	v.touch()
	s.tidy(v)
}

// names returns the services that have entries.
func (s *store) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Sorted(maps.Keys(s.services)), func(name string) bool {
		return len(s.services[name].entries) == 0
	})
}

// follow counts a source as a follower of its service until unfollow.
func (s *store) follow(name string) *service {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.service(name)
	v.followers++
	return v
}

func (s *store) unfollow(v *service) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v.followers--
	s.tidy(v)
}

// since returns the set and its revision where that is not the one seen, and otherwise a channel that closes at the next
// change. A reader compares revisions instead of receiving events, so it can miss nothing and needs no queue.
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
