package sim

import (
	"fmt"
	"hash/fnv"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// store is what all processes share. It remembers each state that it ever had, with its time, since the model compares what readers get
// with these.
//
// Each write has a stamp. A write that is carried out after its caller has gone must not undo a newer write. So the store ignores it if its
// stamp is older than the entry, or if its owner was released.
type store struct {
	ttl time.Duration

	mu       sync.Mutex
	sets     map[string][]setState   // by service
	values   map[string][]valueState // by key
	entries  map[entryKey]*entry
	newest   map[int]int  // by owner: the newest number of its writes that was carried out
	released map[int]bool // owners that were released
	owners   int          // so many have been given out
	revision uint64       // of values
	restarts int
	departed map[string][]departure // by service
	changed  chan struct{}          // closed, and replaced, with each change
}

type entryKey struct{ service, id string }

func (k entryKey) String() string { return k.service + "/" + k.id }

// stamp orders writes: a newer owner wins, and of one owner the newer write.
type stamp struct{ owner, number int }

func (s stamp) before(o stamp) bool {
	return s.owner < o.owner || s.owner == o.owner && s.number < o.number
}

type entry struct {
	in     *registry.Instance
	stamp  stamp
	until  time.Time
	expiry *time.Timer
}

// setState is the set of a service from a moment until the next state. It is never changed.
type setState struct {
	at      time.Time
	entries map[string]stored // by ID
}

type stored struct {
	in    *registry.Instance
	stamp stamp
}

// valueState is the value of a key from a moment until the next state.
type valueState struct {
	at    time.Time
	value *registry.Value
}

type departure struct {
	at time.Time
	id string
}

func newStore(ttl time.Duration) *store {
	s := &store{
		ttl: ttl, sets: map[string][]setState{}, values: map[string][]valueState{}, entries: map[entryKey]*entry{},
		newest: map[int]int{}, released: map[int]bool{}, departed: map[string][]departure{}, changed: make(chan struct{}),
	}
	for _, service := range services {
		s.sets[service] = []setState{{at: time.Now()}}
	}
	for _, key := range keys {
		s.values[key] = []valueState{{at: time.Now()}}
	}
	return s
}

// newOwner returns the number of a new owner, which is newer than all others.
func (s *store) newOwner() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owners++
	return s.owners
}

func refusesContent(content string) error {
	if strings.HasPrefix(content, "bad") {
		return fmt.Errorf("%w: the store takes no content %s", registry.ErrInvalid, content)
	}
	return nil
}

// put writes in over what there is. A write that is late, because its caller has gone, does not undo a newer write.
func (s *store) put(in *registry.Instance, by stamp, late bool) error {
	if err := refusesContent(in.Version); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := entryKey{in.Service, in.ID}
	e := s.entries[key]
	if s.released[by.owner] || by.number <= s.newest[by.owner] || late && e != nil && by.before(e.stamp) {
		return nil
	}
	s.write(key, in, by)
	return nil
}

// replace writes in if the entry has the owner.
func (s *store) replace(in *registry.Instance, by stamp) error {
	if err := refusesContent(in.Version); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := entryKey{in.Service, in.ID}
	if err := s.check(key, by.owner); err != nil {
		return err
	}
	if by.number > s.newest[by.owner] {
		s.write(key, in, by)
	}
	return nil
}

// write makes in the entry. s.mu is locked.
func (s *store) write(key entryKey, in *registry.Instance, by stamp) {
	s.newest[by.owner] = max(s.newest[by.owner], by.number)
	if e := s.entries[key]; e != nil {
		e.expiry.Stop()
	}
	e := &entry{in: in, stamp: by, until: time.Now().Add(s.ttl)}
	e.expiry = time.AfterFunc(s.ttl, func() { s.expire(key, e) })
	s.entries[key] = e
	s.noteSet(key.service)
}

// check returns nil if owner has the entry, and why it does not otherwise. s.mu is locked.
func (s *store) check(key entryKey, owner int) error {
	switch e := s.entries[key]; {
	case e != nil && e.stamp.owner == owner:
		return nil
	case e != nil && e.stamp.owner > owner:
		return registry.ErrReplaced
	}
	return fmt.Errorf("%w: there is no such entry", registry.ErrUnavailable)
}

func (s *store) renew(key entryKey, owner int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(key, owner); err != nil {
		return err
	}
	e := s.entries[key]
	e.until = time.Now().Add(s.ttl)
	e.expiry.Reset(s.ttl)
	return nil
}

func (s *store) expire(key entryKey, e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries[key] == e && !time.Now().Before(e.until) {
		s.drop(key)
		s.noteSet(key.service)
	}
}

// release removes the entry if one of owners has it. None of them can write again.
func (s *store) release(key entryKey, owners []int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[key]
	for _, owner := range owners {
		s.released[owner] = true
		if e != nil && e.stamp.owner == owner {
			s.drop(key)
			s.departed[key.service] = append(s.departed[key.service], departure{time.Now(), key.id})
			s.noteSet(key.service)
		}
	}
	return nil
}

// drop removes an entry. s.mu is locked.
func (s *store) drop(key entryKey) {
	s.entries[key].expiry.Stop()
	delete(s.entries, key)
}

// noteSet adds the state of a service. s.mu is locked.
func (s *store) noteSet(service string) {
	state := setState{at: time.Now(), entries: map[string]stored{}}
	for key, e := range s.entries {
		if key.service == service {
			state.entries[key.id] = stored{e.in, e.stamp}
		}
	}
	s.sets[service] = append(s.sets[service], state)
	s.wake()
}

// wake lets all that wait for a change look again. s.mu is locked.
func (s *store) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// forget loses one entry.
func (s *store) forget(key entryKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries[key] != nil {
		s.drop(key)
		s.noteSet(key.service)
	}
}

// restart loses what op says. Writes that were on their way are lost too.
func (s *store) restart(op Op, seed uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.restarts++
	for key := range maps.Clone(s.entries) {
		if op == Wipe || op == RestartOld && chance(seed, key.String(), s.restarts) < 0.5 {
			s.drop(key)
		}
	}
	for _, service := range services {
		s.noteSet(service)
	}
	for _, key := range keys {
		if op == Wipe || op == RestartOld && chance(seed, key, s.restarts) < 0.5 {
			s.noteValue(key, nil)
		}
	}
}

// restartCount returns how often the store has restarted.
func (s *store) restartCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.restarts
}

// putValue writes a value if the condition of o is met.
func (s *store) putValue(key string, data []byte, o registry.PutOptions) (*registry.Value, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.values[key][len(s.values[key])-1].value
	if o.IfAbsent && old != nil || o.IfRevision != 0 && (old == nil || old.Revision != o.IfRevision) {
		return nil, registry.ErrConflict
	}
	s.revision++
	v := &registry.Value{Key: key, Data: data, Revision: s.revision}
	s.noteValue(key, v)
	return v, nil
}

// deleteValue deletes a value.
func (s *store) deleteValue(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.values[key][len(s.values[key])-1].value != nil {
		s.noteValue(key, nil)
	}
}

// noteValue adds the state of a key. s.mu is locked.
func (s *store) noteValue(key string, v *registry.Value) {
	s.values[key] = append(s.values[key], valueState{time.Now(), v})
	s.wake()
}

// setAt returns the number of the state that a service had at a time, the state, and a channel that is closed with the next change.
func (s *store) setAt(service string, at time.Time) (int, setState, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.sets[service]
	i := len(all) - 1
	for i > 0 && all[i].at.After(at) {
		i--
	}
	return i, all[i], s.changed
}

// valueAt is setAt for a value.
func (s *store) valueAt(key string, at time.Time) (int, valueState, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.values[key]
	i := len(all) - 1
	for i > 0 && all[i].at.After(at) {
		i--
	}
	return i, all[i], s.changed
}

// since returns the states that a service had between from and now.
func (s *store) since(service string, from time.Time) []setState {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.sets[service]
	i := len(all) - 1
	for i > 0 && all[i].at.After(from) {
		i--
	}
	return all[i:]
}

// changes returns how many states a service has had.
func (s *store) changes(service string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sets[service])
}

// valuesSince returns the states that a key had between from and now.
func (s *store) valuesSince(key string, from time.Time) []valueState {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.values[key]
	i := len(all) - 1
	for i > 0 && all[i].at.After(from) {
		i--
	}
	return all[i:]
}

// departures returns the IDs of a service that were deregistered after from and until to.
func (s *store) departures(service string, from, to time.Time) (ids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.departed[service] {
		if d.at.After(from) && !d.at.After(to) {
			ids = append(ids, d.id)
		}
	}
	return ids
}

// close stops the timers.
func (s *store) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range maps.Clone(s.entries) {
		s.drop(key)
	}
}

// chance returns a number below 1 that depends on its arguments only.
func chance(seed uint64, what string, n int) float64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "%d %s %d", seed, what, n)
	x := h.Sum64()
	x ^= x >> 33 // the low bits of FNV depend on few bits of the text
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return float64(x>>11) / (1 << 53)
}
