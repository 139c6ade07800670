package registry

import (
	"context"
	"errors"
	"fmt"
)

// retry calls attempt until it succeeds, fails for good, or ctx ends. In the last case the error wraps the context's error and the error of
// the last attempt. attempt gets opCtx, which ends with ctx and with Close. Failures are logged, since the caller may wait for long without
// logging anything: see failureLog.
func (r *Registry) retry(ctx, opCtx context.Context, op, service, id string, attempt func(context.Context) error) error {
	b := r.newBackoff()
	w := r.newWaiting(op, service, id)
	defer w.end()
	var last error
	for {
		err := attempt(opCtx)
		if err == nil {
			return nil
		}
		if context.Cause(opCtx) == ErrClosed {
			return ErrClosed
		}
		err = r.classify(ctx, err)
		if permanent(err) || errors.Is(err, ErrReplaced) {
			return err
		}
		if ctx.Err() == nil {
			w.failed(err)
			last = err
			if b.wait(opCtx) {
				continue
			}
			if context.Cause(opCtx) == ErrClosed {
				return ErrClosed
			}
			err = r.classify(ctx, opCtx.Err())
		}
		if last == nil || errors.Is(err, ErrClosed) {
			return err
		}
		return fmt.Errorf("%w; the last attempt before that: %w", ctx.Err(), last)
	}
}
