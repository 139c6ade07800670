package choose

import (
	"log/slog"
	"time"
)

// Some instances of a set that has become empty a moment ago are likely to be alive, so connections to them are used for EmptyGrace. They
// are not dialled: another service may have their addresses by now. Package registry withholds an empty set that follows an outage. This
// grace period is for all other empty sets, for example after a registry lost its data between two reads, or for a mistyped query.

// InGrace reports whether the client uses the connections to instances that have left the registry. Locked.
func (s *State) InGrace() bool { return s.grace != nil }

// beginGrace begins a grace period unless EmptyGrace is 0, and reports whether it did. Locked.
func (s *State) beginGrace() bool {
	d := s.Rules.EmptyGrace
	if d == 0 {
		return false
	}
	var grace *time.Timer
	grace = time.AfterFunc(d, func() {
		s.Lock.Lock()
		defer s.Lock.Unlock()
		if s.grace == grace { // it was not ended meanwhile
			s.acceptEmpty()
		}
	})
	s.grace = grace
	s.Began(Emptied)
	s.logBegin(Emptied, slog.LevelWarn, "rollcall: no instance registered, keeping last connections", "instances", len(s.used.Use), "for", d)
	return true
}

// endGrace reports whether there was a grace period. Locked.
func (s *State) endGrace() bool {
	if s.grace == nil {
		return false
	}
	s.grace.Stop()
	s.grace = nil
	return true
}

// acceptEmpty makes the client use the empty set at the end of the grace period. Locked.
func (s *State) acceptEmpty() {
	s.endGrace()
	s.logEnd(Emptied, slog.LevelWarn, "rollcall: no instance registered, closing last connections")
	s.Use(s.Again())
}

// lastInstances returns the instances in use, for use on existing connections only. Locked.
func (s *State) lastInstances() Selection {
	last := Selection{Use: s.used.Use, Panicking: s.panicking, Zones: s.used.Zones, Restrictions: make(map[string]Restriction, len(s.used.Use))}
	for _, in := range s.used.Use {
		last.Restrictions[s.Rules.AddressOf(in)] = Unlisted
	}
	return last
}
