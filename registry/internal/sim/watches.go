package sim

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// watch is one loop over Watch.
type watch struct {
	process *process
	query   registry.Query
	pause   time.Duration // of the reader after each set
	cancel  context.CancelFunc
	leave   bool // the loop must be left at the next pair

	ended  bool
	busy   bool // the reader makes its pause, so it may have missed sets
	pairs  int
	set    []*registry.Instance // of the last pair
	err    error                // of the last pair
	good   []*registry.Instance // of the last pair without an error
	since  time.Time            // of the first pair in a row with an error
	ending bool                 // nothing may follow, except ErrClosed
}

// answers is what the store told the shared watch of one query. A source is the shared watch's if it reads more than once.
type answers struct {
	all []answer
}

type answer struct {
	at    time.Time
	err   error
	state setState
}

// answered notes what a source returns to registry.
func (m *model) answered(s *source, state setState, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.sources[s]
	if a == nil {
		a = &answers{}
		m.sources[s] = a
	}
	a.all = append(a.all, answer{time.Now(), err, state})
	if len(a.all) > 1 {
		m.feeds[feedKey{s.d.serial, s.query.Service}] = a
	}
	if m.tracing && err == nil {
		m.traceLocked("   p%d read %s: %s", s.d.process, s.query.Service, namesOf(state.instances()))
	}
}

func (s setState) instances() (set []*registry.Instance) {
	for _, id := range ids {
		if e, ok := s.entries[id]; ok {
			set = append(set, e.in)
		}
	}
	return set
}

// lookupBegins notes a Lookup, whose watch makes a pause.
func (m *model) lookupBegins(p *process, service string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lookups[feedKey{p.serial, service}] = time.Now()
}

// delay returns how old a set without an error may be: a request that has no answer yet, a slow one, or an old state. Without such a
// fault it is the time that a change takes.
func (m *model) delay(p *process, service string) time.Duration {
	delay := 300 * time.Millisecond
	most := requestLimit + maxSlow + maxOld + time.Second
	if m.faults.hitSince(p.index, time.Now().Add(-most), Hang, Slow, Old, Flaky) {
		delay = most
	}
	if m.mayPause(p, service, time.Now()) {
		delay += registry.LookupPause + 200*time.Millisecond
	}
	return delay
}

// mayPause reports whether the shared watch may have made the pause after a Lookup at a time. The pause begins with the first answer. m.mu
// is locked.
func (m *model) mayPause(p *process, service string, at time.Time) bool {
	began, ok := m.lookups[feedKey{p.serial, service}]
	return ok && (at.Before(began.Add(3*registry.LookupPause+maxSlow)) || m.faults.hitSince(p.index, began))
}

// yielded checks a pair of a watch.
func (m *model) yielded(w *watch, set []*registry.Instance, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.traceLocked("p%d watch %s yields %s, %v", w.process.index, w.query.Service, namesOf(set), err)
	if w.ending && !errors.Is(err, registry.ErrClosed) {
		m.violated("a watch that has ended yields nothing", "p%d %s", w.process.index, w.query.Service)
	}
	m.checkSet(w.process, w.query, set, err, m.delay(w.process, w.query.Service), "watch")
	m.checkGrace(w, set, err)
	if err == nil && w.pairs > 0 && w.err == nil && !m.mayHaveSkipped(w) && sameSet(w.set, set) {
		m.violated("a watch yields each change once", "p%d %s: %s twice", w.process.index, w.query.Service, namesOf(set))
	}
	if w.err == nil {
		w.since = time.Now()
	}
	w.pairs++
	w.set, w.err = set, err
	if err == nil {
		w.good = set
	}
}

// mayHaveSkipped reports whether the reader may have missed an error or a set since the last pair: it is slow, or there were two answers at
// this moment. m.mu is locked.
func (m *model) mayHaveSkipped(w *watch) bool {
	if w.pause > 0 {
		return true
	}
	a := m.feeds[feedKey{w.process.serial, w.query.Service}]
	return a != nil && a.all[len(a.all)-2].at.Equal(time.Now())
}

func sameSet(a, b []*registry.Instance) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !a[i].Equal(b[i]) {
			return false
		}
	}
	return true
}

// checkLast checks the last set of a watch again, which readers still use.
func (m *model) checkLast(w *watch) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if w.ended || w.busy || w.ending || w.pairs == 0 || w.process.closing || w.process.crashed {
		return
	}
	m.checkSet(w.process, w.query, w.set, w.err, m.delay(w.process, w.query.Service), "last set of the watch")
}

// checkSet checks a set without an error:
//
//   - It has each instance that the store had throughout, with its content.
//   - It has no other instance than the store had lately, so nothing that was deregistered, and no old content.
//
// m.mu is locked.
func (m *model) checkSet(p *process, q registry.Query, set []*registry.Instance, err error, delay time.Duration, what string) {
	if err != nil || p.closing {
		return
	}
	states := m.store.since(q.Service, time.Now().Add(-delay))
	shown := map[string]*registry.Instance{}
	for _, in := range set {
		shown[in.ID] = in
	}
	for id, e := range states[0].entries {
		if q.Matches(e.in) && hasThroughout(states, id, e.content()) && (shown[id] == nil || shown[id].Version != e.content()) {
			m.violated("a set without an error has what is registered throughout", "p%d %s %s %s lacks %s=%s, which the store has had for %v",
				p.index, what, q.Service, namesOf(set), id, e.content(), delay)
		}
	}
	for _, in := range set {
		if !hadOnce(states, in) {
			m.violated("a set without an error has only what is registered", "p%d %s %s %s has %s=%s, which the store has not had for %v",
				p.index, what, q.Service, namesOf(set), in.ID, in.Version, delay)
		}
	}
}

// hasThroughout reports whether all states have that content of an ID.
func hasThroughout(states []setState, id, content string) bool {
	for _, s := range states {
		if s.entries[id].content() != content {
			return false
		}
	}
	return true
}

// hadOnce reports whether one of the states has that content of an ID.
func hadOnce(states []setState, in *registry.Instance) bool {
	for _, s := range states {
		if s.entries[in.ID].content() == in.Version {
			return true
		}
	}
	return false
}

// checkGrace checks that a set which shrinks suddenly is withheld for a grace period: the shorter one, or the longer one if nothing is left
// after an outage. Two kinds of watch are not checked: of a process that crashed, since the simulation closes its Registry, so its own
// instances leave on purpose; and of a slow reader, which skips sets, so that it does not see a set shrink in steps. m.mu is locked.
func (m *model) checkGrace(w *watch, set []*registry.Instance, err error) {
	if len(w.good) == 0 || errors.Is(err, registry.ErrClosed) || w.process.crashed || w.pause > 0 {
		return
	}
	now := time.Now()
	var kept []*registry.Instance
	for _, in := range w.good {
		if in.Status == registry.Passing && !m.leftOnPurpose(entryKey{in.Service, in.ID}, now.Add(-time.Minute)) {
			kept = append(kept, in)
		}
	}
	if len(kept) < len(w.good) || 2*len(set) >= len(kept) {
		return
	}
	complete, ok := m.lastComplete(w, kept)
	if !ok || m.mayPause(w.process, w.query.Service, complete) {
		return
	}
	// A grace period that instances began which went before, such as a critical one, is not prolonged.
	if w.err != nil && w.since.Before(complete) && !m.failedSince(w, w.since) {
		complete = w.since
	}
	if withheld := now.Sub(complete); withheld < m.world.shortGrace() {
		m.violated("a set that shrinks suddenly is withheld", "p%d watch %s has %s after %s, of which some are missing for %v; BackoffMax is %v and OutageGrace %v",
			w.process.index, w.query.Service, namesOf(set), namesOf(w.good), withheld, m.world.BackoffMax, m.world.OutageGrace)
	}
	if since, ok := m.emptySince(w, kept); ok && len(set) == 0 && now.Sub(since) < m.world.OutageGrace {
		m.violated("an empty set after an outage is withheld", "p%d watch %s is empty %v after the outage, and had %s; OutageGrace is %v",
			w.process.index, w.query.Service, now.Sub(since), namesOf(w.good), m.world.OutageGrace)
	}
}

// lastComplete returns when the shared watch was told for the first time that some of kept are missing, after it was last told of all of
// them. m.mu is locked.
func (m *model) lastComplete(w *watch, kept []*registry.Instance) (time.Time, bool) {
	a := m.feeds[feedKey{w.process.serial, w.query.Service}]
	if a == nil {
		return time.Time{}, false
	}
	end := time.Now()
	for _, one := range slices.Backward(a.all) {
		switch {
		case one.err != nil:
		case hasAll(one.state, w.query, kept):
			return end, true
		default:
			end = one.at
		}
	}
	return time.Time{}, false
}

// failedSince reports whether a read of the shared watch has failed since then. m.mu is locked.
func (m *model) failedSince(w *watch, then time.Time) bool {
	for _, one := range slices.Backward(m.feeds[feedKey{w.process.serial, w.query.Service}].all) {
		if one.at.Before(then) {
			break
		}
		if one.err != nil {
			return true
		}
	}
	return false
}

func hasAll(s setState, q registry.Query, all []*registry.Instance) bool {
	for _, in := range all {
		if e, ok := s.entries[in.ID]; !ok || !q.Matches(e.in) {
			return false
		}
	}
	return true
}

// emptySince returns when the shared watch was told for the first time that there is nothing, if that was right after an outage before
// which it was told of all of kept. m.mu is locked.
func (m *model) emptySince(w *watch, kept []*registry.Instance) (since time.Time, ok bool) {
	a := m.feeds[feedKey{w.process.serial, w.query.Service}]
	if a == nil {
		return since, false
	}
	outage := false
	for i := len(a.all) - 1; i >= 0; i-- {
		switch one := a.all[i]; {
		case one.err != nil:
			outage = true
		case hasAll(one.state, w.query, kept):
			return since, outage && !since.IsZero()
		case len(one.state.entries) > 0:
			return since, false
		default:
			since, outage = one.at, false
		}
	}
	return since, false
}

// lookedUp checks what a Lookup returns.
func (m *model) lookedUp(p *process, q registry.Query, began time.Time, set []*registry.Instance, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.traceLocked("p%d Lookup(%s) returns %s, %v", p.index, q.Service, namesOf(set), err)
	if err != nil {
		return
	}
	m.checkSet(p, q, set, err, time.Since(began)+m.delay(p, q.Service), "Lookup")
	if !m.faults.hitSince(p.index, began.Add(-maxOld), Old) {
		m.checkOwnWrites(p, q, began, set)
	}
}

// checkOwnWrites checks that a Lookup sees what the same process has registered, updated or deregistered before it. m.mu is locked.
func (m *model) checkOwnWrites(p *process, q registry.Query, began time.Time, set []*registry.Instance) {
	states := m.store.since(q.Service, began)
	shown := map[string]*registry.Instance{}
	for _, in := range set {
		shown[in.ID] = in
	}
	for _, h := range m.handles {
		if h.process != p || h.key.service != q.Service || h.registration == nil {
			continue
		}
		id := h.key.id
		if !h.goneAt.IsZero() && h.goneAt.Before(began) && shown[id] != nil && m.contents[shown[id].Version] == h {
			m.violated("a Lookup sees what its process did", "p%d Lookup %s %s has %s, which it has deregistered", p.index, q.Service, namesOf(set), id)
		}
		e := states[0].entries[id]
		if e.in == nil || m.contents[e.content()] != h || !q.Matches(e.in) {
			continue
		}
		written, ok := h.wrote(e.content())
		if !ok || !written.Before(began) || !hasThroughout(m.store.since(q.Service, written), id, e.content()) {
			continue
		}
		if shown[id] == nil || shown[id].Version != e.content() {
			m.violated("a Lookup sees what its process did", "p%d Lookup %s %s lacks %s=%s", p.index, q.Service, namesOf(set), id, e.content())
		}
	}
}

// wrote returns when the call that wrote the content returned nil, and whether it did.
func (h *handle) wrote(content string) (time.Time, bool) {
	if content == h.content {
		return h.registeredAt, true
	}
	for _, u := range h.updates {
		if u.content == content {
			return u.endedAt, u.ended && u.err == nil
		}
	}
	return time.Time{}, false
}
