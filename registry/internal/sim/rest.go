package sim

import (
	"cmp"
	"errors"
	"slices"

	"github.com/rollcall-go/rollcall/registry"
)

// atRest checks what is promised when everything had time to converge after the last fault.
func (m *model) atRest(processes []*process) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, service := range services {
		for _, id := range ids {
			m.checkEntry(entryKey{service, id})
		}
	}
	for _, w := range m.watches {
		m.checkWatchAtRest(w)
	}
	for _, w := range m.values {
		m.checkValueAtRest(w)
	}
	for _, p := range processes {
		m.checkObservedAtRest(p)
	}
}

// checkEntry checks that an ID has the entry of its newest registration, with the newest content that was not refused, and that Err of each
// registration says so. If there is no registration, there is no entry: neither of a registration that was deregistered, nor of a Register that
// failed, nor of a process that crashed. m.mu is locked.
func (m *model) checkEntry(key entryKey) {
	var live []*handle
	for _, h := range m.handles {
		if h.key == key && h.isLive() && !h.process.crashed {
			live = append(live, h)
		}
	}
	states := m.store.sets[key.service]
	e := states[len(states)-1].entries[key.id]
	if len(live) == 0 {
		if e.in != nil {
			m.violated("what has no owner expires", "the store has %v=%s, and there is no such registration", key, e.content())
		}
		return
	}
	slices.SortFunc(live, func(a, b *handle) int { return cmp.Compare(m.owners[a.content], m.owners[b.content]) })
	newest := live[len(live)-1]
	content, status := newest.wanted()
	switch {
	case e.in == nil:
		m.violated("what is registered is in the store", "p%d %v=%s is missing; Err returns %v", newest.process.index, key, content, newest.registration.Err())
	case m.contents[e.content()] != newest:
		m.violated("the newest owner wins", "%v has %s, want %s", key, e.content(), content)
	case e.content() != content || e.in.Status != status:
		m.violated("the newest content wins", "p%d %v has %s (%v), want %s (%v)", newest.process.index, key, e.content(), e.in.Status, content, status)
	}
	for _, h := range live {
		err := h.registration.Err()
		switch {
		case h == newest && err != nil:
			m.violated("Err tells the truth", "p%d %v=%s is registered, and Err returns %v", h.process.index, key, content, err)
		case h != newest && !errors.Is(err, registry.ErrReplaced):
			m.violated("Err tells the truth", "p%d %v=%s was replaced by %s, and Err returns %v", h.process.index, key, h.content, newest.content, err)
		}
	}
}

// checkWatchAtRest checks that a watch shows what the store has. m.mu is locked.
func (m *model) checkWatchAtRest(w *watch) {
	if w.ended || w.process.closing || w.process.crashed {
		return
	}
	states := m.store.sets[w.query.Service]
	want := selected(states[len(states)-1], w.query)
	switch {
	case w.ending:
		m.violated("a watch ends with its context", "p%d %s", w.process.index, w.query.Service)
	case w.pairs == 0 || w.err != nil || !sameSet(w.set, want):
		m.violated("a watch converges", "p%d %s has %s with error %v after %d pairs, want %s", w.process.index, w.query.Service, namesOf(w.set),
			w.err, w.pairs, namesOf(want))
	}
}

func selected(s setState, q registry.Query) (set []*registry.Instance) {
	for _, in := range s.instances() {
		if q.Matches(in) {
			set = append(set, in)
		}
	}
	return set
}

// checkValueAtRest checks that a watch shows the value that the store has. m.mu is locked.
func (m *model) checkValueAtRest(w *valueWatch) {
	if w.ended || w.process.closing || w.process.crashed {
		return
	}
	states := m.store.values[w.key]
	want := states[len(states)-1].value
	if w.pairs == 0 || w.err != nil || revisionOf(w.value) != revisionOf(want) {
		m.violated("a watch of a value converges", "p%d %s has revision %d with error %v after %d pairs, want %d", w.process.index, w.key,
			revisionOf(w.value), w.err, w.pairs, revisionOf(want))
	}
}

// checkQuiet checks that nothing changes at rest: no registration is lost and comes back.
func (m *model) checkQuiet(before map[string]int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, service := range services {
		if n := len(m.store.sets[service]) - before[service]; n != 0 {
			m.violated("nothing changes at rest", "%s changed %d times", service, n)
		}
	}
}

// checkHistory checks what the store has had from the beginning: nothing comes back that Deregister or Close has confirmed to be gone.
func (m *model) checkHistory() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, service := range services {
		before := map[string]stored{}
		for _, s := range m.store.sets[service] {
			for id, e := range s.entries {
				h := m.contents[e.content()]
				if h == nil || h.goneAt.IsZero() || !s.at.After(h.goneAt) || before[id] == e {
					continue
				}
				m.violated("nothing that was deregistered returns", "p%d %s/%s=%s is back %v after it was deregistered", h.process.index, service, id,
					e.content(), s.at.Sub(h.goneAt))
			}
			before = s.entries
		}
	}
	m.checkRates()
}

// checkCallsEnded notes calls that do not return.
func (m *model) checkCallsEnded(left int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if left > 0 {
		m.violated("each call ends with its context", "%d calls did not", left)
	}
}
