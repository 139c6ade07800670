package choose

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/rollcall-go/rollcall/internal/sleep"
	"github.com/rollcall-go/rollcall/registry"
)

// ValueWatcher is a Discovery that has values, such as a [registry.Registry].
type ValueWatcher interface {
	WatchValue(ctx context.Context, key string) iter.Seq2[*registry.Value, error]
}

// FollowValue is [Follow] for the value of key: it calls receive with what w reports, until ctx ends or watching can never succeed.
func FollowValue(ctx context.Context, w ValueWatcher, key string, receive func(*registry.Value, error) (pause time.Duration)) {
	again(ctx, func() (answered, over bool) {
		var last error
		for v, err := range w.WatchValue(ctx, key) {
			if ctx.Err() != nil {
				return answered, true
			}
			answered, last = answered || err == nil, err
			if pause := receive(v, err); pause > 0 {
				sleep.For(ctx, pause)
			}
		}
		return answered, ctx.Err() != nil || errors.Is(last, registry.ErrClosed) || errors.Is(last, registry.ErrInvalid)
	})
}
