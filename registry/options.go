package registry

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/rollcall-go/rollcall/internal/document"
)

// Options tune a [Registry]. The zero value works. Some durations can be off, as their fields say:
//
//   - In Go, 0 is the default, and a negative duration is off. If the field cannot be off, a negative duration is refused.
//   - In a file, leave the field out for the default; "off" or 0 is off.
//
// In a file the names are as in cache_dir, and durations are text such as "90s" (in JSON nanoseconds too). Logger is not part of any
// file.
type Options struct {
	// Logger receives losses, repairs, outages, suspect sets, unreadable entries and unusable cache files. Default: [slog.Default].
	Logger *slog.Logger `json:"-" yaml:"-" mapstructure:"-" koanf:"-" xml:"-"`
	// CacheDir is a folder for the last good sets. A process that starts while the registry is down gets its instances from there,
	// beside an error that says so. The folder is created if it does not exist. Processes may share it. A file that is no regular file,
	// is larger than 128 MiB, or has an instance that no driver returns is ignored, with a warning. Default: "", nothing is written.
	CacheDir string `json:"cache_dir,omitempty" yaml:"cache_dir,omitempty" mapstructure:"cache_dir" koanf:"cache_dir"`
	// Linger is how long a watch stays open after its last reader has left. A reader that comes back within that time, such as a
	// gRPC channel that leaves idleness, finds the set ready, and the registry is not asked again. At most [MaxLingering] watches
	// linger; the watch that lost its last reader first ends first. Default: 30 s. Negative: not at all.
	Linger time.Duration `json:"linger,omitempty" yaml:"linger,omitempty" mapstructure:"linger" koanf:"linger" off:"negative"`
	// OutageGrace is how long a set without a passing instance is withheld after an outage: a registry that came back without its data
	// answers truthfully that there are no instances, until they have registered again. Other sets that shrink suddenly are withheld
	// for BackoffMax and a second, or for OutageGrace if that is less. The package's documentation has the rule. Default: 10 s.
	// Negative: every set is published at once.
	OutageGrace time.Duration `json:"outage_grace,omitempty" yaml:"outage_grace,omitempty" mapstructure:"outage_grace" koanf:"outage_grace" off:"negative"`
	// KeepOnClose makes [Registry.Close] leave what is registered as it is: it stays until its lease expires, as if the process had
	// died. Default: false, Close deregisters.
	KeepOnClose bool `json:"keep_on_close,omitempty" yaml:"keep_on_close,omitempty" mapstructure:"keep_on_close" koanf:"keep_on_close"`
	// CloseTimeout bounds how long [Registry.Close] tries to deregister what is still registered. Default: 5 s.
	CloseTimeout time.Duration `json:"close_timeout,omitempty" yaml:"close_timeout,omitempty" mapstructure:"close_timeout" koanf:"close_timeout"`
	// BackoffMin and BackoffMax bound the time before a failed attempt is made again. The n-th retry in a row waits between 50% and 100% of
	// min(BackoffMin·2ⁿ⁻¹, BackoffMax), at random. Defaults: 50 ms and 1.4 s: about one attempt a second in a long outage.
	BackoffMin time.Duration `json:"backoff_min,omitempty" yaml:"backoff_min,omitempty" mapstructure:"backoff_min" koanf:"backoff_min"`
	BackoffMax time.Duration `json:"backoff_max,omitempty" yaml:"backoff_max,omitempty" mapstructure:"backoff_max" koanf:"backoff_max"`
	// Burst, Spacing and SpacingPerInstance bound what a storm of changes costs. The reads of a watch are limited by a token bucket
	// of size Burst, which is refilled by one each interval. For n instances, the interval is the larger of Spacing and
	// n*SpacingPerInstance. There are two exceptions:
	//
	//   - For n below 100, Spacing is multiplied by n/100, if the last read brought a change.
	//   - If the store sends what changed, as etcd and memory do, and CacheDir is empty, Spacing is divided by 20, and SpacingPerInstance
	//     by 10.
	//
	// So a change waits for one interval at most, and the newest set always arrives. Defaults: 4, 50 ms and 120 µs. With Consul, a
	// service of 1,000 instances that changes without end is read eight times a second, and a service of 3 instances after each
	// change, as long as changes are 1.5 ms apart.
	Burst              int           `json:"burst,omitempty" yaml:"burst,omitempty" mapstructure:"burst" koanf:"burst"`
	Spacing            time.Duration `json:"spacing,omitempty" yaml:"spacing,omitempty" mapstructure:"spacing" koanf:"spacing"`
	SpacingPerInstance time.Duration `json:"spacing_per_instance,omitempty" yaml:"spacing_per_instance,omitempty" mapstructure:"spacing_per_instance" koanf:"spacing_per_instance"`
	// Rate is how many reads a second all watches and lookups of the Registry make together at most. After a second without a read, that
	// many reads may follow at once; the others wait. Burst and Spacing limit each watch by itself. Default: 0, no limit.
	Rate int `json:"rate,omitempty" yaml:"rate,omitempty" mapstructure:"rate" koanf:"rate"`
}

// The defaults of [Options].
const (
	DefaultLinger             = 30 * time.Second
	DefaultOutageGrace        = 10 * time.Second
	DefaultCloseTimeout       = 5 * time.Second
	DefaultBackoffMin         = 50 * time.Millisecond
	DefaultBackoffMax         = 1400 * time.Millisecond
	DefaultBurst              = 4
	DefaultSpacing            = 50 * time.Millisecond
	DefaultSpacingPerInstance = 120 * time.Microsecond
)

// MarshalJSON writes durations as text, such as "1m30s".
func (o Options) MarshalJSON() ([]byte, error) { return document.MarshalJSON(o) }

// UnmarshalJSON sets the fields that data names, and leaves the others as they were.
func (o *Options) UnmarshalJSON(data []byte) error { return document.UnmarshalJSON(data, o) }

// UnmarshalYAML does the same with YAML.
func (o *Options) UnmarshalYAML(unmarshal func(any) error) error {
	return document.UnmarshalYAML(unmarshal, o)
}

// UnmarshalMapstructure does the same with a document that viper or koanf has parsed.
func (o *Options) UnmarshalMapstructure(in any) error { return document.UnmarshalMap(in, o) }

// Validate returns an error that wraps [ErrInvalid] and names every field that cannot be used.
func (o Options) Validate() error {
	var errs reasons
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"CloseTimeout", o.CloseTimeout}, {"BackoffMin", o.BackoffMin}, {"BackoffMax", o.BackoffMax},
		{"Spacing", o.Spacing}, {"SpacingPerInstance", o.SpacingPerInstance},
	} {
		if d.value < 0 {
			errs = append(errs, fmt.Errorf("%w: Options.%s: %v is negative", ErrInvalid, d.name, d.value))
		}
	}
	if o.Rate < 0 {
		errs = append(errs, fmt.Errorf("%w: Options.Rate: %d is negative", ErrInvalid, o.Rate))
	}
	if o.Burst < 0 {
		errs = append(errs, fmt.Errorf("%w: Options.Burst: %d is negative", ErrInvalid, o.Burst))
	}
	full := o.withDefaults()
	if len(errs) == 0 && full.BackoffMin > full.BackoffMax {
		errs = append(errs, fmt.Errorf("%w: Options.BackoffMin: %v is above BackoffMax, %v", ErrInvalid, full.BackoffMin, full.BackoffMax))
	}
	return errs.join()
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Linger == 0 {
		o.Linger = DefaultLinger
	}
	if o.OutageGrace == 0 {
		o.OutageGrace = DefaultOutageGrace
	}
	if o.CloseTimeout == 0 {
		o.CloseTimeout = DefaultCloseTimeout
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
