package statuspage

import (
	"errors"
	"fmt"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// level is how bad something is. Its text is a class of the style sheet.
type level string

const (
	neutral level = "neutral"
	good    level = "good"
	warn    level = "warn"
	bad     level = "bad"
)

// severity orders levels.
func (l level) severity() int {
	switch l {
	case bad:
		return 2
	case warn:
		return 1
	}
	return 0
}

// state is how a registration or a watch is: a word with its color, and a sentence.
type state struct {
	Level level
	Word  string
	Since time.Time // from when on; zero if that is not known
	Why   string
}

func registrationState(s registry.RegistrationState) state {
	st := state{Level: bad, Word: "lost", Since: s.Since}
	if s.Err == nil {
		return state{Level: good, Word: "registered", Since: s.Since}
	}
	st.Why = s.Err.Error()
	switch {
	case errors.Is(s.Err, registry.ErrReplaced):
		st.Word = "replaced"
	case errors.Is(s.Err, registry.ErrDenied):
		st.Word = "denied"
	case errors.Is(s.Err, registry.ErrInvalid):
		st.Word = "refused"
	case errors.Is(s.Err, registry.ErrClosed):
		st.Level, st.Word = neutral, "closed"
	}
	return st
}

// watchState says how a watch is and why its readers have this set. passing is the number of instances that pass.
func watchState(w registry.WatchState, passing int) state {
	st := state{Since: w.StaleSince}
	switch {
	case w.Err == nil && !w.Known:
		return state{Level: neutral, Word: "no answer yet", Why: "The first answer of the store has not come yet."}
	case w.Err == nil:
		return currentState(w, passing)
	case errors.Is(w.Err, registry.ErrDenied):
		st.Level, st.Word = bad, "denied"
	case !w.Known:
		st.Level, st.Word = bad, "without a set"
	case w.Withheld:
		st.Level, st.Word = warn, "withheld"
	case w.Origin == registry.FromMemory:
		st.Level, st.Word = warn, "from memory"
	case w.Origin == registry.FromDisk:
		st.Level, st.Word = warn, "from disk"
	default:
		st.Level, st.Word = warn, "stale"
	}
	if w.Known && passing == 0 {
		st.Level = bad
	}
	st.Why = whyNotCurrent(w)
	return st
}

// currentState is the state of a watch whose set is what the store says.
func currentState(w registry.WatchState, passing int) state {
	st := state{Level: good, Word: "current", Since: w.ChangedAt, Why: "The set is what the store says."}
	switch n := len(w.Instances); {
	case n == 0:
		st.Level, st.Word = bad, "empty"
		st.Why = "The store says that there is no instance."
	case passing == 0:
		st.Level, st.Word = bad, "not passing"
		st.Why = fmt.Sprintf("The set is what the store says: none of %s passes.", count(n, "instance"))
	case 2*passing < n:
		st.Level, st.Word = warn, "mostly not passing"
		st.Why = fmt.Sprintf("The set is what the store says: %s of %s %s.", grouped(passing), count(n, "instance"), pass(passing))
	}
	return st
}

func whyNotCurrent(w registry.WatchState) string {
	since, reason := w.StaleSince.Format(clock), w.Err.Error()
	switch {
	case !w.Known:
		return "There is no set, because " + reason
	case w.Withheld:
		return fmt.Sprintf("Readers keep the last good set since %s: the store now says something suspect, which is withheld for a grace period. %s", since, reason)
	case w.Origin == registry.FromMemory:
		return fmt.Sprintf("The set is from memory: an earlier watch knew it until %s. The store was not read since, because %s", since, reason)
	case w.Origin == registry.FromDisk:
		return fmt.Sprintf("The set is from disk, saved %s. The store was not read since, because %s", since, reason)
	}
	return fmt.Sprintf("Last good set since %s, because %s", since, reason)
}
