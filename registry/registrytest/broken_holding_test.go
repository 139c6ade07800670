package registrytest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/rollcall-go/rollcall/registry"
)

// brokenHolding keeps or releases wrongly.
var brokenHolding = []broken{
	{
		name: "never notices a loss",
		driver: func() *faulty {
			return &faulty{keep: func(ctx context.Context, l *faultyLease) error {
				l.Keep(ctx)
				<-ctx.Done()
				return ctx.Err()
			}}
		},
		fails: []string{"lost announcement comes back", "one ID twice in one client", "one ID twice in two clients"},
	},
	{
		name: "fights for its ID",
		driver: func() *faulty {
			return &faulty{keep: func(ctx context.Context, l *faultyLease) error {
				err := l.Keep(ctx)
				if errors.Is(err, registry.ErrReplaced) {
					return fmt.Errorf("%w: the entry is another's", registry.ErrUnavailable)
				}
				return err
			}}
		},
		fails: []string{"one ID twice in one client", "one ID twice in two clients"},
		broad: true, // what others register twice is fought for, too
	},
	{
		name: "leaves the entry on release",
		driver: func() *faulty {
			return &faulty{release: func(context.Context, *faultyLease) error { return nil }}
		},
		fails: []string{"deregister", "deregister twice", "deregister against update", "one ID twice in one client", "one ID twice in two clients", "lost announcement comes back", "announcement outlives an outage", "deregister in an outage"},
	},
	{
		name: "releases another's entry",
		driver: func() *faulty {
			return &faulty{release: func(ctx context.Context, l *faultyLease) error {
				taken, err := l.d.Driver.Announce(ctx, l.in)
				if err != nil {
					return err
				}
				return taken.Release(ctx)
			}}
		},
		fails: []string{"one ID twice in one client", "one ID twice in two clients"},
		broad: true, // what is lost so comes back by itself, seen by other cases or not
	},
	{
		name: "releases by prefix",
		driver: func() *faulty {
			var mu sync.Mutex
			var held []*registry.Instance
			d := &faulty{}
			d.announce = func(ctx context.Context, in *registry.Instance, right announceFunc) (registry.Lease, error) {
				mu.Lock()
				held = append(held, in)
				mu.Unlock()
				return right(ctx, in)
			}
			d.release = func(ctx context.Context, l *faultyLease) error {
				mu.Lock()
				defer mu.Unlock()
				for _, in := range held {
					if in.Service == l.in.Service && in.ID != l.in.ID && strings.HasPrefix(in.ID, l.in.ID) {
						if other, err := d.Driver.Announce(ctx, in); err == nil {
							other.Release(ctx)
						}
					}
				}
				return l.Release(ctx)
			}
			return d
		},
		fails: []string{"neighbours"},
	},
	{
		name: "releases when it is closed",
		driver: func() *faulty {
			return &faulty{keep: func(ctx context.Context, l *faultyLease) error {
				err := l.Keep(ctx)
				if ctx.Err() != nil {
					l.Release(context.WithoutCancel(ctx))
				}
				return err
			}}
		},
		fails: []string{"close leaves entries"},
	},
	{
		name: "fails a release of what is gone",
		driver: func() *faulty {
			return &faulty{release: func(ctx context.Context, l *faultyLease) error {
				if set, err := l.d.Driver.Follow(registry.Query{Service: l.in.Service}).Next(ctx); err == nil && !slices.ContainsFunc(set, func(in *registry.Instance) bool { return in.ID == l.in.ID }) {
					return fmt.Errorf("%w: unknown service ID", registry.ErrUnavailable)
				}
				return l.Release(ctx)
			}}
		},
		fails: []string{"deregister after a loss"},
		broad: true,
	},
}
