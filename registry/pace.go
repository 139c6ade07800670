package registry

import "github.com/rollcall-go/rollcall/internal/pace"

// Pusher is implemented by a [Driver] whose store tells its sources what changed. The next set then costs the store
// nothing and this process little, so that [Options.Spacing] can be as much shorter as [PushedSpacing] says.
type Pusher interface {
	// Pushes reports whether sources are told of each change, and do not read the set again.
	Pushes() bool
}

// Where changes are pushed, one part in so many holds of [Options.Spacing] and SpacingPerInstance. A set of 1,000 that is pushed
// to is copied in about 40 µs, which is then done once in 12 ms at the most; a wait also wakes a process that would sleep, which
// costs as much again.
const (
	PushedSpacing            = 20
	PushedSpacingPerInstance = 10
)

// newPace returns the pace of one feed. What is also written to disk is not cheap, however it came.
func (r *Registry) newPace() *pace.Pace {
	spacing, perInstance := r.opts.Spacing, r.opts.SpacingPerInstance
	if p, ok := r.driver.(Pusher); ok && p.Pushes() && r.opts.CacheDir == "" {
		spacing, perInstance = max(1, spacing/PushedSpacing), max(1, perInstance/PushedSpacingPerInstance)
	}
	return pace.New(r.opts.Burst, spacing, perInstance)
}
