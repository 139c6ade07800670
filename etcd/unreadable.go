package etcd

import (
	"fmt"
	"maps"
	"slices"

	"github.com/rollcall-go/rollcall/internal/scrub"
	"github.com/rollcall-go/rollcall/registry"
)

// noteUnreadable notes why the entry of an ID cannot be read.
func (s *source) noteUnreadable(id string, reason error) {
	if before := s.reasons[id]; before != nil && before.Error() == reason.Error() {
		return
	}
	if s.reasons == nil {
		s.reasons = map[string]error{}
	}
	s.reasons[id], s.unreadable = reason, nil
}

// noteReadable notes that the entry of an ID can be read, or does not exist.
func (s *source) noteReadable(id string) {
	if s.reasons[id] != nil {
		delete(s.reasons, id)
		s.unreadable = nil
	}
}

// listUnreadable makes the list of the entries that cannot be read, and reports whether it has changed.
func (s *source) listUnreadable() (changed bool) {
	if s.unreadable != nil {
		return false
	}
	s.unreadable = make([]registry.Unreadable, 0, len(s.reasons))
	for _, id := range slices.Sorted(maps.Keys(s.reasons)) {
		s.unreadable = append(s.unreadable, registry.Unreadable{Entry: scrub.Line(s.prefix + id), Err: s.reasons[id]})
	}
	return true
}

var errSize = fmt.Errorf("the value is empty, or has more than %d KiB", maxValue>>10)
