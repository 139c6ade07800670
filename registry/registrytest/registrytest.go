// Package registrytest is the conformance suite of Rollcall: it holds a backend to everything that the portable layer
// promises to applications. A backend's own test is a few lines:
//
//	func TestConformance(t *testing.T) {
//		registrytest.Run(t, registrytest.Config{
//			New: func(t *testing.T) *registry.Registry { return mybackend.New(address) },
//		})
//	}
//
// The hooks of [Config] that need a hand in the store add the cases for outages, losses and idleness.
package registrytest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rollcall-go/rollcall/registry"
)

// Config tells [Run] how to reach the backend. A hook fails t where it cannot do its work.
type Config struct {
	// New returns a new client. Two clients made during one Run see the same store. The suite closes each. Required.
	New func(t *testing.T) *registry.Registry
	// Lose makes the store lose the entry of in behind its owner's back, as when a lease expires or an agent restarts
	// with nothing. It returns when the entry is lost.
	Lose func(t *testing.T, in registry.Instance)
	// Break makes every upstream call of every client fail, those in progress too, until the function that it returns is
	// called. The suite calls that once for each Break, and makes no client in between.
	Break func(t *testing.T) (heal func())
	// Calls returns the number of upstream calls that all clients together have made so far, those in progress included.
	Calls func(t *testing.T) int
	// Complete makes a case fail whose hook is nil, instead of being skipped. Our own backends set it, so that nothing is
	// left out by accident.
	Complete bool
	// Patience is how long the suite waits for what must happen. It is spent in full only where a case fails. Default:
	// 30 s.
	Patience time.Duration
	// Around runs one case. A backend whose store is in this process can set it to testing/synctest.Test: each case then
	// runs in a bubble, in no real time. Clients and hooks are given the bubble's t. Default: the case is called as it is.
	Around func(t *testing.T, run func(t *testing.T))
}

// Run holds the backend to each of its promises, one subtest for each, and explains those that it breaks. It uses service
// names of its own, new ones each time, and removes what it registers, so the store may be a shared and long-lived one.
//
// The last subtest looks for goroutines that were not there before, and waits for those to end that it finds. So no other
// test may run in parallel, and what the hooks start or keep open, such as idle connections, must end by itself soon.
func Run(t *testing.T, c Config) {
	if c.New == nil {
		t.Fatal("registrytest: Config.New is required")
	}
	if c.Patience == 0 {
		c.Patience = 30 * time.Second
	}
	if c.Around == nil {
		c.Around = func(t *testing.T, run func(t *testing.T)) { run(t) }
	}
	s := &suite{Config: c, suffix: fmt.Sprintf("%08x", rand.Uint32())}
	before := goleak.IgnoreCurrent()
	for _, p := range promises() {
		t.Run(p.name, func(t *testing.T) { s.run(t, p) })
	}
	t.Run("nothing left running", func(t *testing.T) { s.nothingLeft(t, before) })
}

// suite is one Run.
type suite struct {
	Config
	suffix string // of the names of services
	trials int
	stuck  string // the case in which Close hung; what it left behind would spoil all others
}

// promise is one case.
type promise struct {
	name string
	why  string // printed when the backend breaks it
	// needs names the field of Config without which the promise cannot be put to the test.
	needs string
	check func(t *trial)
}

func promises() []promise {
	return slices.Concat(lifecycle, watching, selection, roundTrips, registration, sharing, faults, quietness)
}

func (s *suite) run(t *testing.T, p promise) {
	if s.stuck != "" {
		t.Skipf("not run, since Close hung in %q", s.stuck)
	}
	hooks := map[string]bool{"": true, "Lose": s.Lose != nil, "Break": s.Break != nil, "Calls": s.Calls != nil}
	if !hooks[p.needs] {
		if s.Complete {
			t.Fatalf("Config.%s is nil, and Config.Complete is set", p.needs)
		}
		t.Skipf("not run, since Config.%s is nil", p.needs)
	}
	s.trials++
	s.Around(t, func(t *testing.T) {
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("The promise: %s", p.why)
			}
		})
		p.check(&trial{T: t, suite: s, promise: p})
	})
}

// nothingLeft waits for the goroutines of all cases to end: those of a closed connection may take a moment.
func (s *suite) nothingLeft(t *testing.T, before goleak.Option) {
	if s.stuck != "" {
		t.Skipf("not run, since Close hung in %q", s.stuck)
	}
	deadline := time.Now().Add(s.Patience)
	for {
		err := goleak.Find(before)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("every client is closed, and %v", err)
			t.Log("The promise: Close ends and joins every goroutine. A process that opens and closes clients must not grow.")
			return
		}
	}
}
