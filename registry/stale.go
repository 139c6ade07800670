package registry

import (
	"fmt"
	"time"
)

// StaleError says how far the set or the value beside an error can be trusted. [Registry.Watch], [Registry.Lookup] and
// [Registry.WatchValue] wrap one in each error that comes beside what they knew. It is found with [errors.As], as a *StaleError or as a StaleError:
//
//	var stale *registry.StaleError
//	if errors.As(err, &stale) {
//		age := time.Since(stale.Since)
//	}
type StaleError struct {
	// Since is the time from which on the set may be out of date. It depends on Origin:
	//
	//   - FromRegistry: the time of the first failure,
	//   - FromMemory: the end of the watch that had the set,
	//   - FromDisk: the time at which the set was saved.
	Since time.Time
	// Origin tells the source of the set.
	Origin Origin
	// Withheld has the sorted IDs of instances that readers keep although the newest set, which is withheld, lacks them or has them as
	// not passing. It is nil unless a suspect set is withheld, or was when the outage began. It must not be changed.
	Withheld []string
	// Err is why the set may be out of date.
	Err error
}

// Origin tells the source of a set. Its text form is its name: registry, memory or disk.
type Origin int

const (
	// FromRegistry: the registry sent the set to a watch that is still open.
	FromRegistry Origin = iota
	// FromMemory: an earlier watch of this Registry had the set.
	FromMemory
	// FromDisk: an earlier process saved the set to [Options.CacheDir].
	FromDisk
)

var originNames = [...]string{"registry", "memory", "disk"}

// String returns the name, or Origin(n) for a number that is no origin.
func (o Origin) String() string {
	if o < 0 || int(o) >= len(originNames) {
		return fmt.Sprintf("Origin(%d)", int(o))
	}
	return originNames[o]
}

// MarshalText implements [encoding.TextMarshaler]. It fails for a number that is no origin.
func (o Origin) MarshalText() ([]byte, error) {
	if o < 0 || int(o) >= len(originNames) {
		return nil, fmt.Errorf("%w: origin: %d is none of registry (0), memory (1), disk (2)", ErrInvalid, int(o))
	}
	return []byte(originNames[o]), nil
}

// UnmarshalText implements [encoding.TextUnmarshaler]. It takes the three names and nothing else.
func (o *Origin) UnmarshalText(text []byte) error {
	for i, name := range originNames {
		if name == string(text) {
			*o = Origin(i)
			return nil
		}
	}
	return fmt.Errorf("%w: origin: %q is none of registry, memory, disk", ErrInvalid, text)
}

// Error returns the text of Err, and says so if the set is not from an open watch.
func (e StaleError) Error() string {
	since := e.Since.Format(time.RFC3339)
	switch e.Origin {
	case FromMemory:
		return fmt.Sprintf("%v; what comes beside this error is from memory, known until %s", e.Err, since)
	case FromDisk:
		return fmt.Sprintf("%v; what comes beside this error is from disk, saved %s", e.Err, since)
	}
	return e.Err.Error()
}

// Unwrap returns Err.
func (e StaleError) Unwrap() error { return e.Err }

// As lets [errors.As] find both a StaleError and a *StaleError.
func (e StaleError) As(target any) bool {
	switch t := target.(type) {
	case *StaleError:
		*t = e
	case **StaleError:
		*t = &e
	default:
		return false
	}
	return true
}
