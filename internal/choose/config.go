package choose

import (
	"cmp"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/rollcall-go/rollcall/internal/oneline"
	"github.com/rollcall-go/rollcall/registry"
)

// Config has the settings that grpcx and httpx have in common. Their fields of these names document them.
type Config struct {
	PanicThreshold float64
	EmptyGrace     time.Duration
	Subset         int
	ClientID       string
	Logger         *slog.Logger
}

// Defaults of [Config].
const (
	DefaultPanicThreshold = 0.5
	DefaultEmptyGrace     = 30 * time.Second
)

// WithDefaults returns c with its defaults. Fields that are turned off are 0.
func (c Config) WithDefaults() Config {
	c.PanicThreshold = max(cmp.Or(c.PanicThreshold, DefaultPanicThreshold), 0)
	c.EmptyGrace = max(cmp.Or(c.EmptyGrace, DefaultEmptyGrace), 0)
	if c.ClientID == "" {
		// If the host has no name, Check refuses a Subset: all clients without an ID would use the same instances.
		c.ClientID, _ = os.Hostname()
	}
	c.Logger = cmp.Or(c.Logger, slog.Default())
	return c
}

// Check returns an error that names every field that cannot be used. c must have its defaults. alias gives the other name of a field, such
// as a URL parameter, for the text; it may be nil.
func (c Config) Check(alias map[string]string) error {
	var errs []error
	refuse := func(field, format string, args ...any) {
		if other := alias[field]; other != "" {
			field += " (" + other + ")"
		}
		errs = append(errs, fmt.Errorf("%w: %s"+format, append([]any{registry.ErrInvalid, field}, args...)...))
	}
	if !(c.PanicThreshold <= 1) { // also refuses NaN
		refuse("PanicThreshold", ": %v is above 1, which means all instances", c.PanicThreshold)
	}
	if c.Subset < 0 {
		refuse("Subset", ": %d is negative; 0 means all", c.Subset)
	}
	if c.Subset > 0 && c.ClientID == "" {
		refuse("ClientID", " is required if Subset is set, since this host has no name")
	}
	return oneline.Join(errs...)
}
