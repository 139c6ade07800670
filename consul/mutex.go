package consul

import "context"

// mutex is a mutual exclusion lock that gives up waiting when a context ends.
type mutex chan struct{}

func newMutex() mutex { return make(mutex, 1) }

// lock blocks until the mutex is free, or returns the error of ctx.
func (m mutex) lock(ctx context.Context) error {
	select {
	case m <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (m mutex) unlock() { <-m }
