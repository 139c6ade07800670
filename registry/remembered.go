package registry

import (
	"container/list"
	"fmt"
	"slices"
	"time"
)

// MaxRemembered is the number of queries whose last good set a [Registry] keeps in memory after their watches have ended. The
// query that was used least recently goes first.
const MaxRemembered = 1000

// lastGood is the last good set of a watch that has ended, of this process or of an earlier one.
type lastGood struct {
	instances []*Instance
	since     time.Time // see StaleError.Since
	origin    Origin
}

// recent remembers, by key, the last good sets or values of watches that have ended. Its owner guards it with a lock.
type recent[T any] struct {
	most  int
	byKey map[string]*list.Element // of remembered[T]
	order *list.List               // the most recently used first
}

type remembered[T any] struct {
	key   string
	value T
}

// newRecent returns a recent that remembers most values at most.
func newRecent[T any](most int) recent[T] {
	return recent[T]{most: most, byKey: map[string]*list.Element{}, order: list.New()}
}

// keep remembers value. If there are too many, it forgets the value that was used least recently.
func (m *recent[T]) keep(key string, value T) {
	if e := m.byKey[key]; e != nil {
		e.Value = remembered[T]{key, value}
		m.order.MoveToFront(e)
		return
	}
	m.byKey[key] = m.order.PushFront(remembered[T]{key, value})
	if m.order.Len() > m.most {
		oldest := m.order.Back()
		delete(m.byKey, m.order.Remove(oldest).(remembered[T]).key)
	}
}

// find returns the value of key, or the zero value if none is remembered. That counts as a use.
func (m *recent[T]) find(key string) (value T) {
	e := m.byKey[key]
	if e == nil {
		return value
	}
	m.order.MoveToFront(e)
	return e.Value.(remembered[T]).value
}

// Known returns the last good set of q that the Registry has in memory, and whether there is one. Something must watch or look up q, or have
// done so before. The set may be hours old, and other services may have its addresses by now. The Registry forgets the set only if
// [MaxRemembered] other queries were used since.
// Known does no I/O and does not block.
func (r *Registry) Known(q Query) ([]*Instance, bool) {
	key := q.wide().key()
	r.mu.Lock()
	f, g := r.feeds[key], r.remembered.find(key)
	r.mu.Unlock()
	if f != nil {
		if st := f.bestKnown(); st.known {
			return slices.Clone(st.view(q).set), true
		}
	}
	if g == nil {
		return nil, false
	}
	set, _ := merge(nil, g.instances, q)
	return slices.Clone(set), true
}

// remember takes f out of the feeds and keeps its set for the next reader of the query. r.mu is locked.
func (f *feed) remember() {
	delete(f.r.feeds, f.key)
	if g := f.lastGood(); g != nil {
		f.r.remembered.keep(f.key, g)
	}
}

// lastGood returns the last good set of f, or nil.
func (f *feed) lastGood() *lastGood {
	f.mu.Lock()
	defer f.mu.Unlock()
	st := f.state
	if !st.known {
		return f.backup
	}
	g := &lastGood{instances: st.all.set, since: st.since, origin: max(st.origin, FromMemory)}
	if g.since.IsZero() {
		g.since = time.Now()
	}
	return g
}

// offerBackup loads the saved set if no set is remembered. If the registry does not answer within firstAnswerTimeout, readers get that set:
// a registry that accepts connections and never answers must not keep them waiting until the driver gives up. end stops the wait for
// that time.
func (f *feed) offerBackup() (end func() bool) {
	f.mu.Lock()
	backup := f.backup
	f.mu.Unlock()
	if backup == nil {
		backup = f.r.loadSaved(f.query)
	}
	if backup == nil {
		return func() bool { return false }
	}
	f.mu.Lock()
	f.backup = backup
	f.mu.Unlock()
	return time.AfterFunc(firstAnswerTimeout, f.noAnswer).Stop
}

// noAnswer makes the state say that there is no answer, unless the first read has ended. That read goes on.
func (f *feed) noAnswer() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.state.known && f.state.err == nil && f.ctx.Err() == nil {
		f.failLocked(errNoAnswer)
	}
}

// fromBackup returns the state with the backup as its set. f.mu is locked.
func (f *feed) fromBackup() state {
	set, _ := merge(nil, f.backup.instances, f.query)
	next := f.state.withSet(set)
	next.origin, next.since = f.backup.origin, f.backup.since
	return next
}

// firstAnswerTimeout is how long a feed waits for its first answer before it offers a set from memory or disk.
const firstAnswerTimeout = time.Second

var errNoAnswer = fmt.Errorf("%w: no answer for %v", ErrUnavailable, firstAnswerTimeout)
