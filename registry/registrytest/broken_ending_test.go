package registrytest_test

import (
	"context"

	"github.com/rollcall-go/rollcall/registry"
)

// brokenEnding leaves something running.
var brokenEnding = []broken{
	{
		name: "does not heed its context",
		driver: func() *faulty {
			return &faulty{next: func(ctx context.Context, s *faultySource) ([]*registry.Instance, error) {
				return s.Next(context.WithoutCancel(ctx))
			}}
		},
		fails:    []string{"close ends a watch"},
		realTime: true,
	},
	{
		name: "leaves a goroutine behind",
		driver: func() *faulty {
			return &faulty{next: func(ctx context.Context, s *faultySource) ([]*registry.Instance, error) {
				if s.calls == 1 {
					go func() { select {} }()
				}
				return s.Next(ctx)
			}}
		},
		fails:    []string{"nothing left running"},
		realTime: true,
	},
}
