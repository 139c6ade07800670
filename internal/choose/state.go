package choose

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// State is what one client knows about the instances of its query. Its owner sets the exported fields before the first call, and calls
// every method with Lock locked.
type State struct {
	Rules    *Rules
	Selector Selector
	Registry string      // the name of the registry, for texts; may be empty
	Lock     sync.Locker // guards the State
	// Use is called with Lock locked at the end of a grace period: the client must use this selection from now on.
	Use func(Selection)
	// Began is called with Lock locked when a condition begins.
	Began func(Condition)

	// The last set and error of the watch.
	set      []*registry.Instance
	withheld []string // the IDs of instances in set that the registry does not list, or does not list as passing
	watchErr string   // the error beside set, or ""

	used      Selection // what the client uses: see Used
	panicking bool      // the panic threshold is in effect

	grace  *time.Timer        // ends the grace period for an empty set; nil if there is none
	logged map[Condition]bool // conditions that were logged, by this client or another
}

// Receive handles a set and an error of the watch, and returns the selection that the client must use. ok is false if there is only an
// error. If there is a set too, it is still the best known set.
func (s *State) Receive(set []*registry.Instance, err error) (selection Selection, ok bool) {
	s.watchErr = ""
	if err != nil {
		s.watchErr = err.Error()
	}
	if set == nil && err != nil {
		return Selection{}, false
	}
	s.set, s.withheld = set, withheldIDs(err)
	switch {
	case len(set) > 0:
		if s.endGrace() {
			s.logEnd(Emptied, slog.LevelInfo, "rollcall: instances registered again, ending grace period", "instances", len(set))
		}
	case s.grace != nil || len(s.used.Use) > 0 && s.beginGrace():
		return s.lastInstances(), true
	}
	return s.Again(), true
}

// withheldIDs returns the IDs of the instances that the registry does not list, or does not list as passing, while it withholds a suspect
// set.
func withheldIDs(err error) []string {
	var stale *registry.StaleError
	if errors.As(err, &stale) {
		return stale.Withheld
	}
	return nil
}

// Again selects from the last set again.
func (s *State) Again() Selection { return s.Selector.Choose(s.set, s.withheld) }

// SetUsed records the selection that the client uses.
func (s *State) SetUsed(selection Selection) { s.used = selection }

// Used returns the selection that the client uses. It must not be changed.
func (s *State) Used() Selection { return s.used }

// WatchError returns the text of the error beside the last set, or "".
func (s *State) WatchError() string { return s.watchErr }

// IsPanicking reports whether the panic threshold is in effect.
func (s *State) IsPanicking() bool { return s.panicking }

// LogPanic logs when the panic threshold takes effect with a selection, and when that ends.
func (s *State) LogPanic(selection Selection) {
	if selection.Panicking == s.panicking {
		return
	}
	s.panicking = selection.Panicking
	if !s.panicking {
		s.logEnd(Panicking, slog.LevelInfo, "rollcall: enough instances pass again", "passing", selection.Passing)
		return
	}
	s.Began(Panicking)
	s.logBegin(Panicking, slog.LevelWarn, "rollcall: too few instances pass, using all", "passing", selection.Passing, "instances", len(selection.Use))
}

// Close ends the grace period, and removes the client from the clients whose conditions are logged together.
func (s *State) Close() {
	s.endGrace()
	s.forgetConditions()
}
