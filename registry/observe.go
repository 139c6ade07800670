package registry

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Event is something that happened in a [Registry]: see [Registry.Observe]. Its JSON form has the names of the fields in lower case
// with underscores, the error as text, took in seconds, and leaves zero fields out.
type Event struct {
	// Kind is what happened, and Time is when.
	Kind EventKind
	Time time.Time
	// Service and ID say what the event is about. ID is empty for events of a watch.
	Service, ID string
	// Op is the operation of an Attempted event: register, update, deregister, renew, services, read, read_value, put_value, or
	// delete_value.
	Op string
	// Added, Removed and Changed are the instances, of any status, by which a SetChanged event differs from the set before. They are
	// shared and must not be changed.
	Added, Removed, Changed []*Instance
	// Instances is the number of instances, of any status, that the watch has after the event.
	Instances int
	// Took is how long the operation took (Attempted, Registered), or how long the outage lasted (WatchRecovered, Reregistered).
	Took time.Duration
	// Err is the error of the operation, or why the set may be out of date. It is nil if there is none.
	Err error
	// Lost is how many events were dropped right before this one, because the observer was too slow.
	Lost uint64
}

// EventKind says what happened. Its text form, in JSON and elsewhere, is in lower case with underscores, such as set_changed.
type EventKind int

const (
	// SetChanged: the set of a watch changed. Err is not nil if the set comes beside an error, such as one from disk.
	SetChanged EventKind = iota
	// WatchFailed: the set of a watch may be out of date from now on, or the kind of its error has changed. An outage is one event, or one for
	// each kind of error, not one for each attempt.
	WatchFailed
	// WatchRecovered: the set of a watch is current again.
	WatchRecovered
	// SetWithheld: a suspect set is withheld for a grace period. The watch keeps the last good set.
	SetWithheld
	// Registered: Register has succeeded.
	Registered
	// RegistrationLost: the registry has lost the entry, or a newer registration has the ID (Err wraps ErrReplaced).
	RegistrationLost
	// Reregistered: an instance that was lost is registered again.
	Reregistered
	// Deregistered: the entry was removed by Deregister or Close.
	Deregistered
	// Attempted: one call to the registry has ended. A read counts if it is the first one of a watch or a lookup, or if it failed: the
	// other reads wait for changes.
	Attempted
)

var eventKindNames = [...]string{"set_changed", "watch_failed", "watch_recovered", "set_withheld", "registered", "registration_lost",
	"reregistered", "deregistered", "attempted"}

// String returns the name, or EventKind(n) for a number that is no kind.
func (k EventKind) String() string {
	if k < 0 || int(k) >= len(eventKindNames) {
		return fmt.Sprintf("EventKind(%d)", int(k))
	}
	return eventKindNames[k]
}

// MarshalText implements [encoding.TextMarshaler]. It fails for a number that is no kind.
func (k EventKind) MarshalText() ([]byte, error) {
	if k < 0 || int(k) >= len(eventKindNames) {
		return nil, fmt.Errorf("%w: event kind %d is not from 0 to %d", ErrInvalid, int(k), len(eventKindNames)-1)
	}
	return []byte(eventKindNames[k]), nil
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (k *EventKind) UnmarshalText(text []byte) error {
	i := slices.Index(eventKindNames[:], string(text))
	if i < 0 {
		return fmt.Errorf("%w: event kind %q is unknown", ErrInvalid, text)
	}
	*k = EventKind(i)
	return nil
}

// MarshalJSON implements [json.Marshaler].
func (e Event) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Kind      EventKind   `json:"kind"`
		Time      time.Time   `json:"time"`
		Service   string      `json:"service,omitempty"`
		ID        string      `json:"id,omitempty"`
		Op        string      `json:"op,omitempty"`
		Added     []*Instance `json:"added,omitempty"`
		Removed   []*Instance `json:"removed,omitempty"`
		Changed   []*Instance `json:"changed,omitempty"`
		Instances int         `json:"instances,omitempty"`
		Took      float64     `json:"took,omitempty"`
		Error     string      `json:"error,omitempty"`
		Lost      uint64      `json:"lost,omitempty"`
	}{e.Kind, e.Time, e.Service, e.ID, e.Op, e.Added, e.Removed, e.Changed, e.Instances, e.Took.Seconds(), errorText(e.Err), e.Lost})
}

// errorText returns the text of err, or "" for nil.
func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// MaxPendingEvents is the number of events that wait for a slow observer. Beyond it the oldest ones are dropped and counted: see
// [Event.Lost].
const MaxPendingEvents = 4096

// Observe calls f for each event from now on, in their order, until stop is called or the Registry is closed. The calls come from one
// goroutine, which has no lock, so f may call any method of the Registry. A slow f delays no watch: it loses events, the oldest
// first. Close waits until f has seen the events of its deregistrations, but not
// for longer than Close may take.
//
// Observe and stop do not block. After stop has returned, a call of f may still be in progress, but no other follows.
func (r *Registry) Observe(f func(Event)) (stop func()) {
	o := &observer{f: f, wake: make(chan struct{}, 1), quit: make(chan struct{})}
	r.observers.mu.Lock()
	defer r.observers.mu.Unlock()
	if r.observers.closed {
		return func() {}
	}
	r.observers.all = append(slices.Clone(r.observers.all), o)
	r.observers.any.Store(true)
	r.observers.running.Go(o.run)
	return sync.OnceFunc(func() { r.observers.remove(o) })
}

// observers are the observers of one Registry.
type observers struct {
	any     atomic.Bool // whether there are some, so that an event without one costs nothing
	running sync.WaitGroup

	mu     sync.Mutex // locked while an event is handed out, so that all observers see one order
	all    []*observer
	closed bool
}

// emit hands e out. It does not block, and may be called under any lock.
func (r *Registry) emit(e pendingEvent) {
	if !r.observers.any.Load() {
		return
	}
	e.Time = time.Now()
	r.observers.mu.Lock()
	defer r.observers.mu.Unlock()
	for _, o := range r.observers.all {
		o.push(e)
	}
}

func (s *observers) remove(o *observer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = slices.DeleteFunc(slices.Clone(s.all), func(other *observer) bool { return other == o })
	s.any.Store(len(s.all) > 0)
	o.end(true)
}

// close ends all observers after the events that wait for them. The channel is closed when all have ended.
func (s *observers) close() (ended <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, o := range s.all {
		o.end(false)
	}
	s.all = nil
	s.any.Store(false)
	done := make(chan struct{})
	go func() {
		s.running.Wait()
		close(done)
	}()
	return done
}

// pendingEvent is an event whose differences are found when it is delivered: a dropped one then costs nothing.
type pendingEvent struct {
	Event
	before, after []*Instance // the sets of a SetChanged event
}

// observer delivers events to one function.
type observer struct {
	f    func(Event)
	wake chan struct{} // has a token if there may be something to do
	quit chan struct{} // closed when the observer ends; no event is pushed after that

	mu      sync.Mutex
	pending []pendingEvent
	lost    uint64 // events that were dropped since the last delivery
	stopped bool   // pending events are dropped
	ended   bool
}

func (o *observer) push(e pendingEvent) {
	o.mu.Lock()
	if len(o.pending) >= MaxPendingEvents {
		drop := max(1, MaxPendingEvents/64) // several at a time, since moving the others costs as much as one
		o.pending = slices.Delete(o.pending, 0, drop)
		o.lost += uint64(drop)
	}
	o.pending = append(o.pending, e)
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// end ends the observer, at once or after the events that are pending.
func (o *observer) end(atOnce bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stopped = o.stopped || atOnce
	if !o.ended {
		o.ended = true
		close(o.quit)
	}
}

func (o *observer) run() {
	for {
		if e, ok := o.next(); ok {
			o.f(e.event())
			continue
		}
		select {
		case <-o.wake:
		case <-o.quit:
			if o.isDone() {
				return
			}
		}
	}
}

// next returns the oldest pending event.
func (o *observer) next() (e pendingEvent, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.stopped || len(o.pending) == 0 {
		return e, false
	}
	e = o.pending[0]
	o.pending[0] = pendingEvent{} // its sets may go
	o.pending = o.pending[1:]
	e.Lost, o.lost = o.lost, 0
	return e, true
}

func (o *observer) isDone() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.stopped || len(o.pending) == 0
}

// event returns e with the differences of its sets.
func (e *pendingEvent) event() Event {
	if e.Kind == SetChanged {
		e.Added, e.Removed, e.Changed = differences(e.before, e.after)
	}
	return e.Event
}

// differences compares two sets, which are in the order of [compareInstances].
func differences(before, after []*Instance) (added, removed, changed []*Instance) {
	for len(before) > 0 || len(after) > 0 {
		switch order := compareFirst(before, after); {
		case order < 0:
			removed, before = append(removed, before[0]), before[1:]
		case order > 0:
			added, after = append(added, after[0]), after[1:]
		default:
			if before[0] != after[0] {
				changed = append(changed, after[0])
			}
			before, after = before[1:], after[1:]
		}
	}
	return added, removed, changed
}

// compareFirst compares the IDs of the first instances. An empty set comes last.
func compareFirst(a, b []*Instance) int {
	switch {
	case len(a) == 0:
		return 1
	case len(b) == 0:
		return -1
	}
	return cmp.Compare(a[0].ID, b[0].ID)
}
