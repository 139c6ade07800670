package registrytest_test

import (
	"context"
	"errors"
	"fmt"
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
			return &faulty{next: func(ctx context.Context, s *faultySource) ([]*registry.Instance, error) {
				set, err := s.Next(ctx)
				return set[:min(len(set), 100)], err
			}}
		},
		fails: []string{"completeness"},
	},
	{
		name: "reads failures as empty sets",
		driver: func() *faulty {
			return &faulty{next: func(ctx context.Context, s *faultySource) ([]*registry.Instance, error) {
				set, err := s.Next(ctx)
				if err != nil && ctx.Err() == nil {
					return []*registry.Instance{}, nil
				}
				return set, err
			}}
		},
		fails: []string{"watch in an outage", "watch from an outage on", "lookup in an outage"},
		broad: true,
	},
	{
		name: "never yields an empty set",
		driver: func() *faulty {
			return &faulty{next: func(ctx context.Context, s *faultySource) ([]*registry.Instance, error) {
				for {
					set, err := s.Next(ctx)
					if err != nil || len(set) > 0 {
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
			return &faulty{next: func(ctx context.Context, s *faultySource) ([]*registry.Instance, error) {
				for {
					set, err := s.Next(ctx)
					if err != nil || len(set) > 0 || s.calls == 1 {
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
			return &faulty{next: func(ctx context.Context, s *faultySource) ([]*registry.Instance, error) {
				if s.calls > 1 {
					<-ctx.Done()
					return nil, ctx.Err()
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
			return &faulty{next: func(ctx context.Context, s *faultySource) ([]*registry.Instance, error) {
				set, err := s.Next(ctx)
				if err != nil {
					return nil, err
				}
				set = slices.Clone(set)
				for i, in := range set {
					for _, old := range s.last {
						if old.ID == in.ID {
							set[i] = old
						}
					}
				}
				s.last = set
				return set, nil
			}}
		},
		fails: []string{"update in place", "select by tags", "status changes", "update replaces all", "slow reader"},
		broad: true,
	},
	{
		name: "changes instances that it has handed out",
		driver: func() *faulty {
			return &faulty{next: func(ctx context.Context, s *faultySource) ([]*registry.Instance, error) {
				set, err := s.Next(ctx)
				if err != nil {
					return nil, err
				}
				set = slices.Clone(set)
				for i, in := range set {
					set[i] = in.Clone()
					for _, old := range s.last {
						if old.ID == in.ID && old.Metadata["k"] != in.Metadata["k"] {
							old.Metadata["k"] = in.Metadata["k"]
						}
					}
				}
				s.last = set
				return set, nil
			}}
		},
		fails: []string{"instances never change"},
	},
	{
		name: "takes an outage for bad input",
		driver: func() *faulty {
			return &faulty{next: func(ctx context.Context, s *faultySource) ([]*registry.Instance, error) {
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
			return &faulty{next: func(ctx context.Context, s *faultySource) ([]*registry.Instance, error) {
				fresh := s.d.Driver.Follow(s.query)
				defer fresh.Close()
				return fresh.Next(ctx)
			}}
		},
		fails: []string{"quiet when idle"},
		broad: true, // what it reads in vain counts in other cases too
	},
	{
		name: "polls each second",
		driver: func() *faulty {
			return &faulty{next: func(ctx context.Context, s *faultySource) ([]*registry.Instance, error) {
				if s.calls > 1 {
					select {
					case <-ctx.Done():
						return nil, ctx.Err()
					case <-time.After(time.Second):
					}
				}
				fresh := s.d.Driver.Follow(s.query)
				defer fresh.Close()
				return fresh.Next(ctx)
			}}
		},
		fails: []string{"quiet when idle"},
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
			var all []string
			return &faulty{services: func(ctx context.Context, right servicesFunc) ([]string, error) {
				names, err := right(ctx)
				mu.Lock()
				defer mu.Unlock()
				all = append(all, names...)
				return all, err
			}}
		},
		fails: []string{"services"},
	},
}
