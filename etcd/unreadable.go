package etcd

import (
	"errors"
	"strings"
	"sync"

	"github.com/rollcall-go/rollcall/registry"
)

// unreadable are the values that sets leave out, with the revisions at which they were written, so that each is told of once
// and not by every source that comes across it. A source may be behind another: a revision only grows.
type unreadable struct {
	mu        sync.Mutex
	byService map[string]map[string]int64 // by ID
}

// add notes a value, and reports whether it is news.
func (u *unreadable) add(service, id string, revision int64) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	ids := u.byService[service]
	if known, ok := ids[id]; ok && revision <= known {
		return false
	}
	if u.byService == nil {
		u.byService = map[string]map[string]int64{}
	}
	if ids == nil {
		ids = map[string]int64{}
		u.byService[service] = ids
	}
	ids[id] = revision
	return true
}

// remove forgets a value that was replaced by a good one, or deleted, at the revision.
func (u *unreadable) remove(service, id string, revision int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.drop(service, func(other string, known int64) bool { return other == id && known <= revision })
}

// keep forgets the values of a service that were not among those of a list that was read at the revision.
func (u *unreadable) keep(service string, listed map[string]bool, revision int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.drop(service, func(id string, known int64) bool { return !listed[id] && known <= revision })
}

// restart forgets the values of a service that are newer than the revision, which a store has come to that began again.
func (u *unreadable) restart(service string, revision int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.drop(service, func(_ string, known int64) bool { return known > revision })
}

func (u *unreadable) drop(service string, gone func(id string, revision int64) bool) {
	ids := u.byService[service]
	for id, known := range ids {
		if gone(id, known) {
			delete(ids, id)
		}
	}
	if len(ids) == 0 {
		delete(u.byService, service)
	}
}

// CountUnreadable implements [registry.UnreadableCounter].
func (d *driver) CountUnreadable() int {
	d.unreadable.mu.Lock()
	defer d.unreadable.mu.Unlock()
	n := 0
	for _, ids := range d.unreadable.byService {
		n += len(ids)
	}
	return n
}

// Unreadable implements [registry.UnreadableReporter].
func (s *source) Unreadable() []registry.Unreadable {
	found := s.found
	s.found = nil
	return found
}

// cannotRead notes a value that is no instance.
func (s *source) cannotRead(id string, revision int64, err error) {
	if !s.d.unreadable.add(s.service, id, revision) {
		return
	}
	s.found = append(s.found, registry.Unreadable{Entry: brief(s.prefix + id), Err: errors.New(brief(s.d.settings.scrub(err.Error())))})
}

// brief is a text of others in one line of bounded length.
func brief(text string) string {
	text = strings.ToValidUTF8(strings.Join(strings.Fields(text), " "), "\ufffd")
	if len(text) > maxWords {
		text = strings.ToValidUTF8(text[:maxWords], "") + "…"
	}
	return text
}
