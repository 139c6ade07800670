package main

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/rollcall-go/rollcall/internal/sleep"
	"github.com/rollcall-go/rollcall/registry"
)

// ttl is the TTL of all registrations.
const ttl = 5 * time.Second

// half is the most that a set without an error may lack at once: a Registry withholds a set that has suddenly lost more than half of the
// instances, as registry.Options.OutageGrace says.
const half = steadyServers / 2

// cluster is a registry of several servers.
type cluster interface {
	// open returns a Registry of its own at each call.
	open(ctx context.Context) (*registry.Registry, error)
	faults() []fault
}

// fault is something that may happen to a cluster.
type fault struct {
	name string
	// mayMiss is how many of the steady instances a set without an error may lack, because the store itself says that they are gone or critical.
	mayMiss int
	// run makes the fault and heals it. It may take as long as it likes.
	run func(ctx context.Context, rng *rand.Rand) error
}

// pause waits for a random time between two bounds, or for the end of ctx.
func pause(ctx context.Context, rng *rand.Rand, least, most time.Duration) {
	sleep.For(ctx, least+time.Duration(rng.Int64N(int64(most-least))))
}
