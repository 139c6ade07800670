package registrytest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// brokenLeases keeps or releases wrongly.
var brokenLeases = []broken{
	{
		name: "never notices a loss",
		driver: func() *faulty {
			return &faulty{
				wait: func(ctx context.Context, l *faultyLease) error {
					l.Wait(ctx)
					<-ctx.Done()
					return ctx.Err()
				},
				renew: func(ctx context.Context, l *faultyLease) error {
					l.Renew(ctx)
					return nil
				},
			}
		},
		fails: []string{"losses are withheld", "lost registration comes back", "one ID twice in one client", "one ID twice in two clients", "wait"},
	},
	{
		name: "fights for its ID",
		driver: func() *faulty {
			return &faulty{
				wait: func(ctx context.Context, l *faultyLease) error {
					err := l.Wait(ctx)
					if errors.Is(err, registry.ErrReplaced) {
						return fmt.Errorf("%w: the entry is another's", registry.ErrUnavailable)
					}
					return err
				},
				checkReplaced: func(context.Context, *faultyLease) error { return nil },
			}
		},
		fails: []string{"one ID twice in one client", "one ID twice in two clients"},
		broad: true, // what others register twice is fought for, too
	},
	{
		name: "never finds that it was replaced",
		driver: func() *faulty {
			return &faulty{checkReplaced: func(context.Context, *faultyLease) error { return nil }}
		},
		fails: []string{"check replaced"},
	},
	{
		name: "does not notice a release",
		driver: func() *faulty {
			return &faulty{wait: func(ctx context.Context, l *faultyLease) error {
				err := l.Wait(ctx)
				if err == nil {
					<-ctx.Done()
					return ctx.Err()
				}
				return err
			}}
		},
		fails: []string{"wait"},
	},
	{
		name: "removes what the previous lease has first",
		driver: func() *faulty {
			return &faulty{register: func(ctx context.Context, in *registry.Instance, prev registry.Lease, right registerFunc) (registry.Lease, error) {
				if prev != nil {
					if err := prev.Release(ctx); err != nil {
						return nil, err
					}
					time.Sleep(gap)
				}
				return right(ctx, in, prev)
			}}
		},
		fails: []string{"previous lease", "lost answers"},
		broad: true, // what is registered again after an outage flaps too
	},
	{
		name: "leaves what the previous lease has",
		driver: func() *faulty {
			d := &faulty{}
			d.register = func(ctx context.Context, in *registry.Instance, prev registry.Lease, right registerFunc) (registry.Lease, error) {
				l, err := right(ctx, in, prev)
				if l == nil || prev == nil {
					return l, err
				}
				return stays{l}, err
			}
			return d
		},
		fails: []string{"previous lease", "lost answers", "attempt whose answer is lost", "lost registration comes back"},
		broad: true, // nothing that was registered again goes
	},
	{
		name: "is on standby for ever",
		driver: func() *faulty {
			return &faulty{checkReplaced: func(context.Context, *faultyLease) error { return registry.ErrReplaced }}
		},
		fails: []string{"one ID twice in one client", "one ID twice in two clients", "lost registration comes back"},
		broad: true, // nothing that is lost comes back
	},
	{
		name: "renews nothing",
		driver: func() *faulty {
			return &faulty{renew: func(context.Context, *faultyLease) error { return nil }}
		},
		fails: []string{"update refused for a while"},
	},
	{
		name: "leaves the entry on release",
		driver: func() *faulty {
			return &faulty{release: func(context.Context, *faultyLease) error { return nil }}
		},
		fails: []string{"lookup after a write", "departures are seen at once", "close deregisters", "deregister", "deregister twice", "deregister against update", "one ID twice in one client", "one ID twice in two clients", "lost registration comes back", "registration outlives an outage", "deregister in an outage", "lost answers", "lost answers of a register that gives up", "check replaced", "previous lease", "wait", "attempt whose answer is lost", "update whose answer is lost", "failed attempt to register again", "failed attempt of another registration"},
	},
	{
		name: "releases another's entry",
		driver: func() *faulty {
			return &faulty{release: func(ctx context.Context, l *faultyLease) error {
				taken, err := l.d.Driver.Register(ctx, l.in, nil)
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
			d.register = func(ctx context.Context, in *registry.Instance, prev registry.Lease, right registerFunc) (registry.Lease, error) {
				mu.Lock()
				held = append(held, in)
				mu.Unlock()
				return right(ctx, in, prev)
			}
			d.release = func(ctx context.Context, l *faultyLease) error {
				mu.Lock()
				defer mu.Unlock()
				for _, in := range held {
					if in.Service == l.in.Service && in.ID != l.in.ID && strings.HasPrefix(in.ID, l.in.ID) {
						if other, err := d.Driver.Register(ctx, in, nil); err == nil {
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
			return &faulty{wait: func(ctx context.Context, l *faultyLease) error {
				err := l.Wait(ctx)
				if ctx.Err() != nil {
					l.Release(context.WithoutCancel(ctx))
				}
				return err
			}}
		},
		fails: []string{"keep on close"},
	},
	{
		name: "removes the entry when an update fails",
		driver: func() *faulty {
			return &faulty{update: func(ctx context.Context, in *registry.Instance, l *faultyLease) error {
				err := l.Update(ctx, in)
				if err != nil {
					l.Release(ctx)
				}
				return err
			}}
		},
		fails: []string{"update refused for a while", "update whose answer is lost"},
	},
	{
		name: "fails a release of what is gone",
		driver: func() *faulty {
			return &faulty{release: func(ctx context.Context, l *faultyLease) error {
				if set, err := l.d.Driver.Watch(registry.Query{Service: l.in.Service}).Next(ctx); err == nil && !slices.ContainsFunc(set.Instances, func(in *registry.Instance) bool { return in.ID == l.in.ID }) {
					return fmt.Errorf("%w: unknown service ID", registry.ErrUnavailable)
				}
				return l.Release(ctx)
			}}
		},
		fails: []string{"deregister after a loss"},
		broad: true,
	},
}

// stays is a lease whose entry its Release leaves to expire.
type stays struct{ registry.Lease }

func (stays) Release(context.Context) error { return nil }
