package registrytest_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/rollcall-go/rollcall/registry"
)

// brokenAttempts treats wrongly what an attempt that failed has left, or what was lost or replaced.
var brokenAttempts = []broken{
	{
		name: "returns no lease of an attempt without an answer",
		driver: func() *faulty {
			return &faulty{register: func(ctx context.Context, in *registry.Instance, prev registry.Lease, right registerFunc) (registry.Lease, error) {
				l, err := right(ctx, in, prev)
				if err != nil {
					return nil, err
				}
				return l, nil
			}}
		},
		fails: []string{"attempt whose answer is lost"},
	},
	{
		name: "forgets the previous lease when an attempt fails",
		driver: func() *faulty {
			return &faulty{register: func(ctx context.Context, in *registry.Instance, _ registry.Lease, right registerFunc) (registry.Lease, error) {
				l, err := right(ctx, in, nil)
				if err != nil && l == nil {
					return empty{}, err // as if it had an owner of its own, which has no entry
				}
				return l, err
			}}
		},
		fails: []string{"failed attempt to register again"},
		broad: true, // what was registered before an outage stays after it
	},
	{
		name: "releases the entry of an earlier registration after a failed attempt",
		driver: func() *faulty {
			var mu sync.Mutex
			earlier := map[string]registry.Lease{} // the newest of each ID
			return &faulty{register: func(ctx context.Context, in *registry.Instance, prev registry.Lease, right registerFunc) (registry.Lease, error) {
				l, err := right(ctx, in, prev)
				mu.Lock()
				defer mu.Unlock()
				if err != nil && l == nil {
					return earlier[in.ID], err
				}
				earlier[in.ID] = l
				return l, err
			}}
		},
		fails: []string{"failed attempt of another registration"},
		broad: true, // it also goes on with what a Register that gave up has left
	},
	{
		name: "fails an update that was carried out before",
		driver: func() *faulty {
			return &faulty{update: func(ctx context.Context, in *registry.Instance, l *faultyLease) error {
				if l.unsure {
					return registry.ErrUnavailable // as a condition on what it has read before the first attempt would
				}
				err := l.Update(ctx, in)
				l.unsure = err != nil && ctx.Err() == nil
				return err
			}}
		},
		fails: []string{"update whose answer is lost"},
		broad: true,
	},
	{
		name: "says once for no reason that it was replaced",
		driver: func() *faulty {
			var said atomic.Bool
			return &faulty{checkReplaced: func(ctx context.Context, l *faultyLease) error {
				if said.CompareAndSwap(false, true) {
					return registry.ErrReplaced
				}
				return l.CheckReplaced(ctx)
			}}
		},
		fails: []string{"check replaced", "previous lease", "attempt whose answer is lost", "update whose answer is lost", "failed attempt of another registration"},
		broad: true, // a registration that was lost yields for a while
	},
	{
		name: "renews a lost entry by writing it",
		driver: func() *faulty {
			return &faulty{renew: func(ctx context.Context, l *faultyLease) error {
				err := l.Renew(ctx)
				if errors.Is(err, registry.ErrUnavailable) {
					return l.revive(ctx, l.in)
				}
				return err
			}}
		},
		fails: []string{"renewal of a lost entry"},
	},
	{
		name: "updates a lost entry as another registration",
		driver: func() *faulty {
			return &faulty{update: func(ctx context.Context, in *registry.Instance, l *faultyLease) error {
				err := l.Update(ctx, in)
				if errors.Is(err, registry.ErrUnavailable) {
					_, err = l.d.Driver.Register(ctx, in, nil)
				}
				return err
			}}
		},
		fails: []string{"update of a lost entry"},
		broad: true,
	},
	{
		name: "updates a lost entry and fails",
		driver: func() *faulty {
			return &faulty{update: func(ctx context.Context, in *registry.Instance, l *faultyLease) error {
				err := l.Update(ctx, in)
				if errors.Is(err, registry.ErrUnavailable) {
					l.revive(ctx, in)
				}
				return err
			}}
		},
		fails: []string{"update of a lost entry"},
		broad: true,
	},
	{
		name: "says that it has updated a lost entry",
		driver: func() *faulty {
			return &faulty{update: func(ctx context.Context, in *registry.Instance, l *faultyLease) error {
				err := l.Update(ctx, in)
				if errors.Is(err, registry.ErrUnavailable) {
					return nil
				}
				return err
			}}
		},
		fails: []string{"update of a lost entry"},
		broad: true, // an update in an outage is said to succeed, too
	},
	{
		name: "updates over a newer registration",
		driver: func() *faulty {
			return &faulty{update: func(ctx context.Context, in *registry.Instance, l *faultyLease) error {
				err := l.Update(ctx, in)
				if errors.Is(err, registry.ErrReplaced) {
					return l.revive(ctx, in)
				}
				return err
			}}
		},
		fails: []string{"update of a replaced entry"},
	},
}

// empty is a lease of an attempt that has written nothing.
type empty struct{ registry.Lease }

func (empty) CheckReplaced(context.Context) error { return nil }
func (empty) Release(context.Context) error       { return nil }
