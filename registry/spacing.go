package registry

import "github.com/rollcall-go/rollcall/internal/pace"

// If the store pushes changes (see [Properties]), [Options.Spacing] and SpacingPerInstance are divided by these numbers. Applying a
// change to a set of 1,000 instances takes about 40 µs, and happens every 12 ms at most. Each wait also wakes a process that would sleep
// otherwise, which costs about as much.
const (
	PushedSpacing            = 20
	PushedSpacingPerInstance = 10
)

// newPace returns the pace of one feed. A set that is also written to disk is not cheap, even if the store pushes its changes.
func (r *Registry) newPace() *pace.Pace {
	spacing, perInstance := r.opts.Spacing, r.opts.SpacingPerInstance
	if r.driver.Properties().Pushes && r.opts.CacheDir == "" {
		spacing, perInstance = max(1, spacing/PushedSpacing), max(1, perInstance/PushedSpacingPerInstance)
	}
	return pace.New(r.opts.Burst, spacing, perInstance)
}
