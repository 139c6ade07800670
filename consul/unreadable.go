package consul

import (
	"errors"
	"fmt"
	"slices"

	"github.com/rollcall-go/rollcall/consul/internal/jsondiff"
	"github.com/rollcall-go/rollcall/internal/scrub"
	"github.com/rollcall-go/rollcall/registry"
)

// errManyUnreadable is what is wrong with entries beyond jsondiff.MaxLeftOut, which are only counted.
var errManyUnreadable = fmt.Errorf("it is one of more than %d entries that cannot be read", jsondiff.MaxLeftOut)

// listUnreadable returns the entries that the last answer left out, each under a name of its own. It is the same slice as long as they are
// the same.
func (s *source) listUnreadable() []registry.Unreadable {
	left := s.answer.LeftOut
	if len(s.unreadable) == len(left.Entries)+left.More && slices.Equal(s.leftOut, left.Entries) {
		return s.unreadable
	}
	s.leftOut, s.unreadable = left.Entries, nil
	named := map[string]int{}
	for _, e := range left.Entries {
		name := s.shown(e.Name)
		if named[name]++; named[name] > 1 {
			name = fmt.Sprintf("%s (%d)", name, named[name])
		}
		s.unreadable = append(s.unreadable, registry.Unreadable{Entry: name, Err: errors.New(s.shown(e.Why))})
	}
	for i := range left.More {
		s.unreadable = append(s.unreadable, registry.Unreadable{Entry: fmt.Sprintf("entry %d that cannot be read", len(left.Entries)+i+1), Err: errManyUnreadable})
	}
	return s.unreadable
}

// shown returns a text of an entry as it may be reported. Secrets are hidden before the text is cut, which could leave half of one.
func (s *source) shown(text string) string { return scrub.Line(s.d.settings.scrub(text)) }
