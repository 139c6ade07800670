package sim

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// model knows what the processes have called and what they got, and notes each broken promise. Its checks are in this file
// and in watches.go, values.go, rest.go, rate.go and events.go.
type model struct {
	world  World
	store  *store
	faults *faults
	began  time.Time

	mu         sync.Mutex
	violations []string
	tracing    bool
	lines      []string
	after      int // lines since the first violation

	handles  []*handle          // in the order of their calls of Register
	contents map[string]*handle // by the content that a handle has registered or wanted
	owners   map[string]int     // by the content of a Register that succeeded: its owner in the store
	watches  []*watch
	values   []*valueWatch
	lookups  map[feedKey]time.Time // when the newest Lookup began
	feeds    map[feedKey]*answers  // what the shared watch was told
	sources  map[*source]*answers
	attempts map[attemptKey][]time.Time
	calls    map[attemptKey]int // calls of the application that may make such attempts
	observed map[*process]*observed
}

// feedKey names the shared watch of one start of a process.
type feedKey struct {
	serial  int
	service string
}

// handle is what one call of Register is for the application.
type handle struct {
	process      *process
	key          entryKey
	content      string
	registration registry.Registration // nil if Register has not succeeded
	registeredAt time.Time
	failedAt     time.Time // when Register has returned an error; what it left is released after that
	expires      bool      // an attempt may have left an entry without a lease, which has to expire
	updates      []*update // in the order of the calls
	leaves       bool      // Deregister or Close was called
	goneAt       time.Time // when Deregister or Close has confirmed that the entry is gone
}

// update is one call of Update.
type update struct {
	content string
	status  registry.Status
	at      time.Time
	ended   bool
	endedAt time.Time
	err     error
}

// isRefused reports whether the content is not wanted, since the store has refused it or the call came too late.
func (u *update) isRefused() bool {
	gaveUp := errors.Is(u.err, context.DeadlineExceeded) // perhaps while the registration was lost because of a denial
	return refusesContent(u.content) != nil || errors.Is(u.err, registry.ErrDenied) && !gaveUp || errors.Is(u.err, registry.ErrClosed)
}

func newModel(w World, s *store, f *faults) *model {
	return &model{
		world: w, store: s, faults: f, began: time.Now(), contents: map[string]*handle{}, owners: map[string]int{},
		lookups: map[feedKey]time.Time{}, feeds: map[feedKey]*answers{}, sources: map[*source]*answers{},
		attempts: map[attemptKey][]time.Time{}, calls: map[attemptKey]int{}, observed: map[*process]*observed{},
	}
}

// maxViolations bounds how many violations of one history are noted: most follow from the first.
const maxViolations = 5

// violated notes a broken promise. m.mu is locked.
func (m *model) violated(promise, format string, args ...any) {
	if len(m.violations) < maxViolations {
		m.violations = append(m.violations, fmt.Sprintf("%v: %s: %s", time.Since(m.began), promise, fmt.Sprintf(format, args...)))
	}
	m.traceLocked("VIOLATED %s: "+format, append([]any{promise}, args...)...)
}

// trace notes what happens, for a person who looks for the reason of a violation.
func (m *model) trace(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.traceLocked(format, args...)
}

func (m *model) traceLocked(format string, args ...any) {
	if len(m.violations) > 0 {
		m.after++
	}
	if m.tracing && m.after < 10 {
		m.lines = append(m.lines, fmt.Sprintf("%12v  %s", time.Since(m.began), fmt.Sprintf(format, args...)))
	}
}

// registers notes a call of Register.
func (m *model) registers(p *process, key entryKey, content string) *handle {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := &handle{process: p, key: key, content: content}
	m.handles = append(m.handles, h)
	m.contents[content] = h
	for _, operation := range []string{"register", "check", "release", "renew", "update"} {
		m.calls[attemptKey{p.index, operation, key.String()}]++
	}
	return h
}

// registered notes the result of Register.
func (m *model) registered(h *handle, g registry.Registration, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.traceLocked("p%d Register(%v %s) returns %v", h.process.index, h.key, h.content, err)
	if err != nil {
		h.failedAt = time.Now()
	} else {
		h.registration, h.registeredAt = g, time.Now()
	}
}

// leavesToExpire notes that an attempt to register may have left an entry without a lease.
func (m *model) leavesToExpire(content string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if h := m.contents[content]; h != nil {
		h.expires = true
	}
}

// registeredAs notes which owner of the store a registration is.
func (m *model) registeredAs(content string, owner int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if h := m.contents[content]; h != nil && h.content == content {
		m.owners[content] = owner
	}
}

// newestHandle returns the newest registration of a process for an ID, or nil.
func (m *model) newestHandle(p *process, key entryKey) *handle {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := len(m.handles) - 1; i >= 0; i-- {
		if h := m.handles[i]; h.process == p && h.key == key && h.registration != nil {
			return h
		}
	}
	return nil
}

// updates notes a call of Update.
func (m *model) updates(h *handle, content string, status registry.Status) *update {
	m.mu.Lock()
	defer m.mu.Unlock()
	u := &update{content: content, status: status, at: time.Now()}
	h.updates = append(h.updates, u)
	m.contents[content] = h
	m.calls[attemptKey{h.process.index, "update", h.key.String()}]++
	return u
}

// updated notes the result of Update. An Update that returns nil was in force, or a newer one was.
func (m *model) updated(h *handle, u *update, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.traceLocked("p%d Update(%v %s) returns %v", h.process.index, h.key, u.content, err)
	u.ended, u.endedAt, u.err = true, time.Now(), err
	if err != nil {
		return
	}
	newer := map[string]bool{}
	for _, o := range h.updates {
		newer[o.content] = newer[o.content] || !o.at.Before(u.at)
	}
	for _, state := range m.store.since(h.key.service, u.at) {
		if newer[state.entries[h.key.id].content()] {
			return
		}
	}
	m.violated("an Update that returns nil was in force", "p%d %v %s", h.process.index, h.key, u.content)
}

// content returns the content of an entry, or "" if there is none.
func (e stored) content() string {
	if e.in == nil {
		return ""
	}
	return e.in.Version
}

// leaves notes a call of Deregister.
func (m *model) leaves(h *handle) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h.leaves = true
	m.calls[attemptKey{h.process.index, "release", h.key.String()}]++
}

// left notes the result of Deregister.
func (m *model) left(h *handle, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.traceLocked("p%d Deregister(%v %s) returns %v", h.process.index, h.key, h.content, err)
	if err == nil && h.goneAt.IsZero() {
		h.goneAt = time.Now()
	}
}

// closing notes a call of Close.
func (m *model) closing(p *process) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p.closing = true
	for _, h := range m.handles {
		if h.process == p && !p.crashed {
			h.leaves = true
		}
	}
}

// closed notes the result of Close. Close takes CloseTimeout and a second at most, and reports what it could not deregister.
func (m *model) closed(p *process, took time.Duration, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.traceLocked("p%d Close returns %v", p.index, err)
	if took > registry.DefaultCloseTimeout+time.Second {
		m.violated("Close returns in time", "p%d: it took %v", p.index, took)
	}
	for _, h := range m.handles {
		if h.process == p && err == nil && h.registration != nil && h.goneAt.IsZero() {
			h.goneAt = time.Now()
		}
	}
}

// wanted returns the content and the status that a registration must have in the store.
func (h *handle) wanted() (content string, status registry.Status) {
	for i := len(h.updates) - 1; i >= 0; i-- {
		if u := h.updates[i]; !u.isRefused() {
			return u.content, u.status
		}
	}
	return h.content, registry.Passing
}

// waitsForRefusal reports whether content is of an Update that gave up before the store could refuse it.
func (h *handle) waitsForRefusal(content string) bool {
	for _, u := range h.updates {
		if u.content == content {
			return refusesContent(content) != nil && !errors.Is(u.err, registry.ErrInvalid)
		}
	}
	return false
}

// isLive reports whether the application has the registration, and wants it.
func (h *handle) isLive() bool {
	return h.registration != nil && !h.leaves && !h.process.closing
}

// leftOnPurpose reports whether an instance was taken out of the set on purpose since a time. m.mu is locked.
func (m *model) leftOnPurpose(key entryKey, since time.Time) bool {
	for _, h := range m.handles {
		if h.key != key {
			continue
		}
		if h.leaves || !h.failedAt.IsZero() {
			return true
		}
		for _, u := range h.updates {
			if u.status != registry.Passing && u.at.After(since) {
				return true
			}
		}
	}
	return false
}

// afterStep checks what is promised at any time.
func (m *model) afterStep() {
	m.mu.Lock()
	handles, watches, values := m.handles, m.watches, m.values
	m.mu.Unlock()
	for _, h := range handles {
		m.checkErr(h)
		m.checkReleased(h)
	}
	for _, w := range watches {
		m.checkLast(w)
	}
	for _, w := range values {
		m.checkLastValue(w)
	}
}

// checkErr checks that Err tells the truth if it returns nil: the store has what Instance returns, or had it so lately that the loss
// cannot have been noticed.
func (m *model) checkErr(h *handle) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !h.isLive() || h.process.crashed {
		return
	}
	for _, u := range h.updates {
		if !u.ended {
			return // the store has the old content or the new one
		}
	}
	err, in := h.registration.Err(), h.registration.Instance()
	if content, _ := h.wanted(); in.Version != content && !h.waitsForRefusal(in.Version) {
		m.violated("Instance returns the newest content that was not refused", "p%d %v has %s, want %s", h.process.index, h.key, in.Version, content)
	}
	// The answer to the last write may be slow, the next renewal is due after a third of the TTL, and it may have no answer for as long.
	unnoticed := time.Now().Add(-maxSlow - 2*m.world.TTL/3 - 100*time.Millisecond)
	if err != nil || h.registeredAt.After(unnoticed) {
		return
	}
	for _, state := range m.store.since(h.key.service, unnoticed) {
		if state.entries[h.key.id].content() == in.Version {
			return
		}
	}
	m.violated("Err tells the truth", "p%d %v: it returns nil, and the store has not had %s since %v", h.process.index, h.key, in.Version, unnoticed.Sub(m.began))
}

// checkReleased checks that a Register that failed leaves nothing, if the store can be reached soon enough after that.
func (m *model) checkReleased(h *handle) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if h.failedAt.IsZero() || h.expires || h.process.closing || h.process.crashed {
		return
	}
	now := time.Now()
	healthy := m.faults.healthySince(h.process.index, now)
	if healthy.Before(h.failedAt) {
		healthy = h.failedAt
	}
	retry := m.world.BackoffMax + requestLimit
	if healthy.Sub(h.failedAt) > releaseTimeout-retry || now.Sub(healthy) < retry {
		return
	}
	states := m.store.since(h.key.service, now)
	if states[len(states)-1].entries[h.key.id].content() == h.content {
		m.violated("a Register that fails leaves nothing", "p%d %v=%s is in the store %v after it failed", h.process.index, h.key, h.content, now.Sub(h.failedAt))
	}
}

// namesOf returns instances as text.
func namesOf(set []*registry.Instance) string {
	var names []string
	for _, in := range set {
		name := in.ID + "=" + in.Version
		if in.Status != registry.Passing {
			name += "(" + in.Status.String() + ")"
		}
		names = append(names, name)
	}
	return "[" + strings.Join(names, " ") + "]"
}
