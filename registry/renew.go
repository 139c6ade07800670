package registry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// renewAndWait renews lease and waits for the loss of its entry, side by side. If one of the two fails, it ends the other by cancel, which
// ends ctx. renewAndWait returns after both have ended, with the reason why the entry is lost.
func renewAndWait(ctx context.Context, cancel context.CancelCauseFunc, lease Lease) error {
	var renewing sync.WaitGroup
	var renewal error
	if ttl := lease.TTL(); ttl > 0 {
		renewing.Go(func() {
			renewal = renewEvery(ctx, lease, max(ttl/3, 1))
			if renewal != nil {
				cancel(renewal)
			}
		})
	}
	err := lease.Wait(ctx)
	cancel(err)
	renewing.Wait()
	if renewal != nil && !errors.Is(err, ErrReplaced) {
		return renewal
	}
	return err
}

// renewEvery renews lease until a renewal fails, and returns that error. If ctx ends first, it returns nil. The first renewal is due after
// one interval. A process that was paused for longer renews at once.
func renewEvery(ctx context.Context, lease Lease, interval time.Duration) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := renewOnce(ctx, lease, interval); err != nil {
			if ctx.Err() != nil && !errors.Is(err, ErrReplaced) {
				return nil
			}
			return err
		}
	}
}

func renewOnce(ctx context.Context, lease Lease, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := lease.Renew(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: no answer to a renewal within %v: %w", ErrUnavailable, limit, err)
	}
	return err
}
