package registrytest_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// brokenReading finds something else than there is.
var brokenReading = []broken{
	{
		name: "returns the first hundred",
		driver: func() *faulty {
			return &faulty{next: func(ctx context.Context, s *faultySource) (registry.Set, error) {
				set, err := s.Next(ctx)
				set.Instances = set.Instances[:min(len(set.Instances), 100)]
				return set, err
			}}
		},
		fails: []string{"completeness"},
	},
	{
		name: "reads failures as empty sets",
		driver: func() *faulty {
			return &faulty{next: func(ctx context.Context, s *faultySource) (registry.Set, error) {
				set, err := s.Next(ctx)
				if err != nil && ctx.Err() == nil {
					return registry.Set{Instances: []*registry.Instance{}}, nil
				}
				return set, err
			}}
		},
		fails: []string{"watch from an outage on", "lookup in an outage"}, // a set that a watch had is withheld
		broad: true,
	},
	{
		name: "never yields an empty set",
		driver: func() *faulty {
			return &faulty{next: func(ctx context.Context, s *faultySource) (registry.Set, error) {
				for {
					set, err := s.Next(ctx)
					if err != nil || len(set.Instances) > 0 {
						return set, err
					}
				}
			}}
		},
		fails: []string{"empty first set", "last instance leaves"},
		broad: true,
	},
	{
		name: "yields no empty set after the first",
		driver: func() *faulty {
			return &faulty{next: func(ctx context.Context, s *faultySource) (registry.Set, error) {
				for {
					set, err := s.Next(ctx)
					if err != nil || len(set.Instances) > 0 || s.calls == 1 {
						return set, err
					}
				}
			}}
		},
		fails: []string{"last instance leaves"},
		broad: true,
	},
	{
		name: "never wakes",
		driver: func() *faulty {
			return &faulty{next: func(ctx context.Context, s *faultySource) (registry.Set, error) {
				if s.calls > 1 {
					<-ctx.Done()
					return registry.Set{}, ctx.Err()
				}
				return s.Next(ctx)
			}}
		},
		fails: []string{"empty first set", "last instance leaves", "two clients", "update in place", "slow reader", "watch in an outage"},
		broad: true,
	},
	{
		name: "misses changes of content",
		driver: func() *faulty {
			return &faulty{next: func(ctx context.Context, s *faultySource) (registry.Set, error) {
				set, err := s.Next(ctx)
				if err != nil {
					return registry.Set{}, err
				}
				set.Instances = slices.Clone(set.Instances)
				for i, in := range set.Instances {
					for _, old := range s.last {
						if old.ID == in.ID {
							set.Instances[i] = old
						}
					}
				}
				s.last = set.Instances
				return set, nil
			}}
		},
		fails: []string{"update in place", "select by tags", "status changes", "update replaces all", "slow reader"},
		broad: true,
	},
	{
		name: "changes instances that it has handed out",
		driver: func() *faulty {
			return &faulty{next: func(ctx context.Context, s *faultySource) (registry.Set, error) {
				set, err := s.Next(ctx)
				if err != nil {
					return registry.Set{}, err
				}
				set.Instances = slices.Clone(set.Instances)
				for i, in := range set.Instances {
					set.Instances[i] = in.Clone()
					for _, old := range s.last {
						if old.ID == in.ID && old.Metadata["k"] != in.Metadata["k"] {
							old.Metadata["k"] = in.Metadata["k"]
						}
					}
				}
				s.last = set.Instances
				return set, nil
			}}
		},
		fails: []string{"instances never change"},
	},
	{
		name: "takes an outage for bad input",
		driver: func() *faulty {
			return &faulty{next: func(ctx context.Context, s *faultySource) (registry.Set, error) {
				set, err := s.Next(ctx)
				if errors.Is(err, registry.ErrUnavailable) {
					err = fmt.Errorf("%w: bad gateway", registry.ErrInvalid)
				}
				return set, err
			}}
		},
		fails: []string{"watch in an outage", "watch from an outage on", "lookup in an outage"},
		broad: true,
	},
	{
		name: "returns though nothing changed",
		driver: func() *faulty {
			return &faulty{next: func(ctx context.Context, s *faultySource) (registry.Set, error) {
				fresh := s.d.Driver.Watch(s.query)
				defer fresh.Close()
				set, err := fresh.Next(ctx)
				return withoutUnreadable(set), err
			}}
		},
		fails: []string{"quiet when idle"},
		broad: true, // its useless reads count in other cases too
	},
	{
		name: "polls each second",
		driver: func() *faulty {
			return &faulty{next: func(ctx context.Context, s *faultySource) (registry.Set, error) {
				if s.calls > 1 {
					select {
					case <-ctx.Done():
						return registry.Set{}, ctx.Err()
					case <-time.After(time.Second):
					}
				}
				fresh := s.d.Driver.Watch(s.query)
				defer fresh.Close()
				set, err := fresh.Next(ctx)
				return withoutUnreadable(set), err
			}}
		},
		fails: []string{"quiet when idle", "departures are seen at once"}, // a fresh source reports no departures
	},
	{
		name: "reports no departures",
		driver: func() *faulty {
			return &faulty{next: func(ctx context.Context, s *faultySource) (registry.Set, error) {
				set, err := s.Next(ctx)
				set.Departed = nil
				return set, err
			}}
		},
		fails: []string{"departures are seen at once"},
		broad: true, // others only see an error on the way
	},
	{
		name: "takes losses for departures",
		driver: func() *faulty {
			return &faulty{next: func(ctx context.Context, s *faultySource) (registry.Set, error) {
				set, err := s.Next(ctx)
				s.last = append(s.last, set.Instances...)
				for _, in := range s.last {
					set.Departed = append(set.Departed, in.ID)
				}
				return set, err
			}}
		},
		fails: []string{"losses are withheld"},
	},
	{
		name: "reads what was a while ago first",
		driver: func() *faulty {
			var mu sync.Mutex
			first := map[string][]*registry.Instance{} // by service
			return &faulty{next: func(ctx context.Context, s *faultySource) (registry.Set, error) {
				set, err := s.Next(ctx)
				if err != nil || s.calls > 1 {
					return set, err
				}
				mu.Lock()
				defer mu.Unlock()
				if old, ok := first[s.query.Service]; ok {
					set.Instances = old
					return set, nil
				}
				first[s.query.Service] = set.Instances
				return set, nil
			}}
		},
		fails: []string{"lookup after a write"},
		broad: true,
	},
	{
		name: "lists one service alone",
		driver: func() *faulty {
			return &faulty{services: func(ctx context.Context, right servicesFunc) ([]string, error) {
				names, err := right(ctx)
				return names[:min(1, len(names))], err
			}}
		},
		fails: []string{"services"},
	},
	{
		name: "lists services that have gone",
		driver: func() *faulty {
			var mu sync.Mutex
			all := map[string]bool{}
			return &faulty{services: func(ctx context.Context, right servicesFunc) ([]string, error) {
				names, err := right(ctx)
				mu.Lock()
				defer mu.Unlock()
				for _, name := range names {
					all[name] = true
				}
				return slices.Collect(maps.Keys(all)), err
			}}
		},
		fails: []string{"services"},
	},
	{
		name: "leaves out unreadable entries without a word",
		driver: func() *faulty {
			return &faulty{next: func(ctx context.Context, s *faultySource) (registry.Set, error) {
				set, err := s.Next(ctx)
				set.Unreadable = nil
				return set, err
			}}
		},
		fails: []string{"unreadable entry"},
	},
	{
		name: "fails a set because of an unreadable entry",
		driver: func() *faulty {
			return &faulty{next: func(ctx context.Context, s *faultySource) (registry.Set, error) {
				set, err := s.Next(ctx)
				if len(set.Unreadable) > 0 {
					return registry.Set{}, fmt.Errorf("%w: %w", registry.ErrUnavailable, set.Unreadable[0].Err)
				}
				return set, err
			}}
		},
		fails: []string{"unreadable entry"},
	},
	{
		name: "reads what is no instance as one",
		driver: func() *faulty {
			return &faulty{next: func(ctx context.Context, s *faultySource) (registry.Set, error) {
				set, err := s.Next(ctx)
				for _, u := range set.Unreadable {
					in := &registry.Instance{ID: u.Entry, Service: s.query.Service, Weight: 1}
					set.Instances = append(slices.Clip(set.Instances), in)
				}
				return set, err
			}}
		},
		fails: []string{"unreadable entry"},
	},
	{
		name: "counts an unreadable entry after it was removed",
		driver: func() *faulty {
			return &faulty{next: func(ctx context.Context, s *faultySource) (registry.Set, error) {
				set, err := s.Next(ctx)
				if len(set.Unreadable) == 0 {
					set.Unreadable = s.unreadable
				}
				s.unreadable = set.Unreadable
				return set, err
			}}
		},
		fails: []string{"unreadable entry"},
	},
}
