package registry

import (
	"context"
	"slices"
)

// Services returns the names of the services that have instances, sorted. It makes one attempt, which ctx governs.
// Errors: [ErrDenied], [ErrUnavailable], [ErrUnsupported], [ErrClosed], and the context's.
func (r *Registry) Services(ctx context.Context) ([]string, error) {
	opCtx, end, err := r.beginRead(ctx)
	if err != nil {
		return nil, &Error{Op: "services", Err: err}
	}
	defer end()
	var names []string
	if err = r.limit.wait(opCtx); err == nil {
		names, err = r.driver.Services(opCtx)
	}
	if err != nil {
		return nil, &Error{Op: "services", Err: r.classify(ctx, err)}
	}
	names = slices.Clone(names)
	slices.Sort(names)
	return slices.Compact(names), nil
}
