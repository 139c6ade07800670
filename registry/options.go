package registry

import (
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Options tune a [Registry]. The zero value works; a zero field means its default. A negative duration is refused
// where it has no meaning of its own.
type Options struct {
	// Logger receives what nobody else would hear of: losses, repairs, outages, unreadable cache files. Default:
	// [slog.Default].
	Logger *slog.Logger
	// CacheDir is a folder for the last good sets, so that a process that starts while the registry is down still gets
	// its instances, beside an error that says that they are from disk. It is created where it does not exist. Processes
	// may share it. Default: "", nothing is written.
	CacheDir string
	// Linger is how long a watch stays warm after its last reader has left, so that one who comes back, such as a gRPC
	// channel that leaves idleness, finds it ready and the registry does not see a query cancelled and asked again.
	// Default: 30 s. Negative: not at all.
	Linger time.Duration
	// EmptyHold is how long an empty set is not believed that comes right after an outage, or within BackoffMax and a second
	// of its end, where there were instances before: a registry that came back with nothing answers truthfully that it has
	// none, until they have announced themselves again. Meanwhile the last good set stands beside an error that says so. A
	// set of which none passes any more is doubted likewise; and for BackoffMax and a second, or EmptyHold where that is
	// less, one with fewer than half of the instances from before, unless those were from disk: the first few that are back
	// would have to serve the calls of all. Where such sets take turns, that is over after both times together. Default: 10 s.
	// Negative: every set is believed at once.
	EmptyHold time.Duration
	// BackoffMin and BackoffMax bound the time before a failed attempt is made again: before the n-th attempt in a row
	// it is between a half and the whole (equal jitter) of BackoffMin·2ⁿ, and of BackoffMax at the most. Defaults: 50 ms
	// and 1.4 s: about one attempt a second in a long outage.
	BackoffMin, BackoffMax time.Duration
	// Burst and Spacing bound what a storm of changes costs. A watch that was quiet reads its next Burst sets as fast as
	// they come; after that it reads one each Spacing, and earns one more of the burst back for each Spacing that it does
	// not use. What a read costs grows with the set: of many instances Spacing is at least SpacingPerInstance for each, and
	// of fewer than 100 it is as much less, unless a read brings no change at all. What a change has to wait for is
	// therefore never more than one Spacing, and the newest set always arrives. Where the store tells what changed,
	// as etcd and memory do, and CacheDir is empty, a twentieth of Spacing and a tenth of SpacingPerInstance are enough.
	// Defaults: 4, 50 ms and 120 µs: a service of 1,000 instances that changes without end is read eight times a second from
	// Consul, and one of 3 with each change, as long as those are 1.5 ms apart.
	Burst              int
	Spacing            time.Duration
	SpacingPerInstance time.Duration
}

// The defaults of [Options].
const (
	DefaultLinger             = 30 * time.Second
	DefaultEmptyHold          = 10 * time.Second
	DefaultBackoffMin         = 50 * time.Millisecond
	DefaultBackoffMax         = 1400 * time.Millisecond
	DefaultBurst              = 4
	DefaultSpacing            = 50 * time.Millisecond
	DefaultSpacingPerInstance = 120 * time.Microsecond
)

// Validate returns an error that wraps [ErrInvalid] and names every field that cannot be used.
func (o Options) Validate() error {
	var errs []error
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"BackoffMin", o.BackoffMin}, {"BackoffMax", o.BackoffMax},
		{"Spacing", o.Spacing}, {"SpacingPerInstance", o.SpacingPerInstance},
	} {
		if d.value < 0 {
			errs = append(errs, fmt.Errorf("%w: Options.%s: %v is negative", ErrInvalid, d.name, d.value))
		}
	}
	if o.Burst < 0 {
		errs = append(errs, fmt.Errorf("%w: Options.Burst: %d is negative", ErrInvalid, o.Burst))
	}
	if full := o.withDefaults(); len(errs) == 0 && full.BackoffMin > full.BackoffMax {
		errs = append(errs, fmt.Errorf("%w: Options.BackoffMin: %v is above BackoffMax, %v", ErrInvalid, full.BackoffMin, full.BackoffMax))
	}
	return errors.Join(errs...)
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Linger == 0 {
		o.Linger = DefaultLinger
	}
	if o.EmptyHold == 0 {
		o.EmptyHold = DefaultEmptyHold
	}
	if o.BackoffMin == 0 {
		o.BackoffMin = DefaultBackoffMin
	}
	if o.BackoffMax == 0 {
		o.BackoffMax = DefaultBackoffMax
	}
	if o.Burst == 0 {
		o.Burst = DefaultBurst
	}
	if o.Spacing == 0 {
		o.Spacing = DefaultSpacing
	}
	if o.SpacingPerInstance == 0 {
		o.SpacingPerInstance = DefaultSpacingPerInstance
	}
	return o
}
