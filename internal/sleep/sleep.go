// Package sleep waits for a time or for the end of a context.
package sleep

import (
	"context"
	"time"
)

// For blocks for d, or until ctx ends, and reports whether ctx is still alive. If both come at the same moment, either may be reported.
func For(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return ctx.Err() == nil
	}
}
