// Package registrytest is the conformance suite of Rollcall: it tests whether a backend keeps everything that the portable layer
// promises to applications, and that [registry.Driver] requires. A backend's own test is a few lines:
//
//	func TestConformance(t *testing.T) {
//		registrytest.Run(t, registrytest.Config{
//			New: func(t *testing.T) *registry.Registry { return mybackend.New(address) },
//		})
//	}
//
// The hooks of [Config] that need a hand in the store add the cases for outages, losses and idleness. A backend that can only find
// sets [Config.Write]: the cases that register are then skipped, and the log of the test names each.
package registrytest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rollcall-go/rollcall/registry"
)

// Config tells [Run] how to reach the backend. A hook fails t if it cannot do its work.
type Config struct {
	// New returns a new client. Two clients made during one Run see the same store. The suite closes each. Required.
	New func(t *testing.T) *registry.Registry
	// NewDriver returns a new driver of the same store. The suite closes each. It adds the cases that call the driver itself, without
	// the portable layer that would make up for a part of what it does wrong.
	NewDriver func(t *testing.T) registry.Driver
	// Write is set for a backend that can only find, whose Register returns ErrUnsupported. It writes in to the store as the tool does
	// that registers there, and replaces an entry with the same service and ID. in is complete and valid. The suite calls
	// remove once, unless the entry was replaced. Write calls t.Skip with the reason if the store has no place
	// for such an instance, such as one with metadata.
	Write func(t *testing.T, in registry.Instance) (remove func())
	// KeepOnClose returns a new client as New does, with Options.KeepOnClose set: one whose entries Close leaves to expire.
	KeepOnClose func(t *testing.T) *registry.Registry
	// Lose makes the store lose the entry of in behind its owner's back, as when a lease expires or an agent restarts
	// with nothing. It returns when the entry is lost.
	Lose func(t *testing.T, in registry.Instance)
	// Break makes every upstream call of every client fail, those in progress too, until the function that it returns is
	// called. The suite calls that once for each Break, and makes no client in between.
	Break func(t *testing.T) (heal func())
	// RefuseWrites makes every attempt of every client to write the content of an entry fail with ErrUnavailable, while the
	// store still renews, reads and removes entries, until the function that it returns is called. A full database does so. The
	// suite makes no client in between.
	RefuseWrites func(t *testing.T) (heal func())
	// LoseAnswers makes every attempt of every driver that NewDriver returned to write the content of an entry fail with
	// ErrUnavailable after the store has carried it out, until the function that it returns is called. A connection that breaks before
	// the answer does so. The suite makes no driver in between.
	LoseAnswers func(t *testing.T) (heal func())
	// WriteUnreadable writes an entry with that service and ID that is no instance, as another program might. The suite calls remove
	// once, which removes the entry. WriteUnreadable calls t.Skip with the reason if the store has no place for such an entry.
	WriteUnreadable func(t *testing.T, service, id string) (remove func())
	// Calls returns the number of upstream calls that all clients together have made so far, those in progress included.
	Calls func(t *testing.T) int
	// Values says that the store has values. If it is false, and PutValue returns ErrUnsupported, the cases about values are skipped.
	Values bool
	// Complete makes a case fail whose hook is nil, instead of being skipped. Our own backends set it, so that nothing is
	// left out by accident.
	Complete bool
	// Patience is how long the suite waits for what must happen. All of it passes only if a case fails. Default:
	// 30 s.
	Patience time.Duration
	// NoLeakCheck leaves out the last subtest, which looks for goroutines that the cases left running, so that other tests may run
	// in parallel. The test binary must then look for them at its end, as by goleak.VerifyTestMain.
	NoLeakCheck bool
	// Around runs one case. A backend whose store is in this process can set it to testing/synctest.Test: each case then
	// runs in a bubble, in no real time. Clients and hooks are given the bubble's t. Default: the case is called as it is.
	Around func(t *testing.T, run func(t *testing.T))
}

// Run tests each promise in a subtest, and explains each promise that the backend breaks. It uses service
// names of its own, new ones each time, and removes what it registers, so the store may be a shared and long-lived one.
//
// The last subtest looks for goroutines that were not there before, and waits for those to end that it finds. So no other
// test may run in parallel unless [Config.NoLeakCheck] is set, and what the hooks start or keep open, such as idle connections, must
// end by itself soon.
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
		if p.needs != "Write" || c.Write != nil {
			t.Run(p.name, func(t *testing.T) { s.run(t, p) })
		}
	}
	if !c.NoLeakCheck {
		t.Run("nothing left running", func(t *testing.T) { s.nothingLeft(t, before) })
	}
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
	// needs names the fields of Config without which the promise cannot be put to the test, with spaces between them.
	needs string
	// registers is set if the case registers by Register, or needs what that does: an entry that its owner renews, updates and
	// deregisters.
	registers bool
	check     func(t *trial)
}

func promises() []promise {
	return slices.Concat(lifecycle, watching, lookups, shrinking, selection, roundTrips, registration, sharing, faults, quietness, unreadable, drivers, leases, attempts, values)
}

func (s *suite) run(t *testing.T, p promise) {
	if s.stuck != "" {
		t.Skipf("not run, since Close hung in %q", s.stuck)
	}
	if p.registers && s.Write != nil {
		t.Skipf("not checked, since the backend can only find. The promise: %s", p.why)
	}
	hooks := map[string]bool{
		"Write": s.Write != nil, "NewDriver": s.NewDriver != nil,
		"Lose": s.Lose != nil, "Break": s.Break != nil, "Calls": s.Calls != nil,
		"KeepOnClose": s.KeepOnClose != nil, "RefuseWrites": s.RefuseWrites != nil,
		"LoseAnswers": s.LoseAnswers != nil, "WriteUnreadable": s.WriteUnreadable != nil,
	}
	for need := range strings.SplitSeq(p.needs, " ") {
		if need == "" || hooks[need] {
			continue
		}
		if s.Complete {
			t.Fatalf("Config.%s is nil, and Config.Complete is set", need)
		}
		t.Skipf("not run, since Config.%s is nil", need)
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

// nothingLeft waits for the goroutines of all cases to end: a goroutine of a closed connection may take a moment.
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
