package registrytest_test

import (
	"context"
	"sync/atomic"

	"github.com/rollcall-go/rollcall/registry"
)

// heedless is the one source of the process that does not heed its context. Close waits a while for each, and one is enough.
var heedless atomic.Pointer[faultySource]

// brokenEnding leaves something running.
var brokenEnding = []broken{
	{
		name: "does not heed its context",
		driver: func() *faulty {
			return &faulty{next: func(ctx context.Context, s *faultySource) (registry.Set, error) {
				// The first call returns at once, and a watch may end before the second one.
				if s.calls > 1 && (heedless.CompareAndSwap(nil, s) || heedless.Load() == s) {
					return s.Next(context.WithoutCancel(ctx))
				}
				return s.Next(ctx)
			}}
		},
		fails:    []string{"nothing left running"}, // Close does not wait for it
		realTime: true,
	},
	{
		name: "leaves a goroutine behind",
		driver: func() *faulty {
			return &faulty{next: func(ctx context.Context, s *faultySource) (registry.Set, error) {
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
