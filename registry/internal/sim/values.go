package sim

import (
	"errors"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// valueWatch is one loop over WatchValue.
type valueWatch struct {
	process *process
	key     string

	ended bool
	pairs int
	value *registry.Value // of the last pair
	err   error           // of the last pair
}

// revisionOf returns 0 for an absence.
func revisionOf(v *registry.Value) uint64 {
	if v == nil {
		return 0
	}
	return v.Revision
}

// yieldedValue checks a pair of WatchValue.
func (m *model) yieldedValue(w *valueWatch, v *registry.Value, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.traceLocked("p%d watch value %s yields revision %d, %v", w.process.index, w.key, revisionOf(v), err)
	if err == nil && w.pairs > 0 && w.err == nil && revisionOf(v) == revisionOf(w.value) && !m.valueChanged(w) {
		m.violated("a watch yields each change once", "p%d %s: revision %d twice", w.process.index, w.key, revisionOf(v))
	}
	if err != nil && !errors.Is(err, registry.ErrClosed) && v == nil && w.value != nil {
		m.checkAbsence(w)
	}
	w.pairs++
	w.value, w.err = v, err
	m.checkValue(w)
}

// valueChanged reports whether the value changed lately, so that the reader may have missed one. m.mu is locked.
func (m *model) valueChanged(w *valueWatch) bool {
	return len(m.store.valuesSince(w.key, time.Now().Add(-m.delay(w.process, w.key)))) > 1
}

// checkLastValue checks the last value of a watch again, which readers still use.
func (m *model) checkLastValue(w *valueWatch) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !w.ended && w.pairs > 0 && !w.process.closing && !w.process.crashed {
		m.checkValue(w)
	}
}

// checkValue checks that the store had the value lately, if there is no error. m.mu is locked.
func (m *model) checkValue(w *valueWatch) {
	if w.err != nil {
		return
	}
	states := m.store.valuesSince(w.key, time.Now().Add(-m.delay(w.process, w.key)))
	for _, s := range states {
		if revisionOf(s.value) == revisionOf(w.value) {
			return
		}
	}
	m.violated("a value without an error is the store's", "p%d %s has revision %d, the store %d", w.process.index, w.key, revisionOf(w.value),
		revisionOf(states[len(states)-1].value))
}

// checkAbsence checks that a value which was known is kept while the store cannot be asked. m.mu is locked.
func (m *model) checkAbsence(w *valueWatch) {
	for _, s := range m.store.valuesSince(w.key, time.Now().Add(-m.delay(w.process, w.key))) {
		if s.value == nil {
			return
		}
	}
	m.violated("a value that is known is kept in an outage", "p%d %s is absent beside an error", w.process.index, w.key)
}
