package watchtest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

const (
	fleetService = "orders"
	// fleetTimeout bounds what must happen. It is spent in full only if a test fails.
	fleetTimeout = 60 * time.Second
	// thaw is how long the watch is observed after a pause: a server that was paused removes within seconds what has expired by
	// its clock.
	thaw = 5 * time.Second
)

// Fleet is a service with several instances, and a watch of it. Each instance has a Registry of its own and so behaves like a process of its own.
type Fleet struct {
	t             testing.TB
	registrations []registry.Registration

	mu    sync.Mutex
	pairs []fleetPair
}

// fleetPair is what a watch yields at one time.
type fleetPair struct {
	at        time.Time
	instances int
	err       error
}

// Server is a server that can be paused, such as a Consul or an Etcd of package testbed.
type Server interface {
	Stop()
	Continue()
}

// StartFleet registers n instances and waits until a watch yields them all. open returns another Registry at each call, and closes it
// with the test.
func StartFleet(t testing.TB, n int, open func() *registry.Registry) *Fleet {
	t.Helper()
	f := &Fleet{t: t}
	ctx, cancel := context.WithTimeout(context.Background(), fleetTimeout)
	defer cancel()
	for i := range n {
		in := registry.Instance{ID: fmt.Sprint(i), Service: fleetService, Address: "10.0.0.1:80"}
		g, err := open().Register(ctx, in)
		if err != nil {
			t.Fatal(err)
		}
		f.registrations = append(f.registrations, g)
	}
	f.watch(open())
	f.waitUntilComplete()
	return f
}

// watch collects what a watch yields until the test ends.
func (f *Fleet) watch(r *registry.Registry) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for set, err := range r.Watch(ctx, registry.Query{Service: fleetService}) {
			f.mu.Lock()
			f.pairs = append(f.pairs, fleetPair{time.Now(), len(set), err})
			f.mu.Unlock()
		}
	}()
	f.t.Cleanup(func() { cancel(); <-done })
}

// KeepsMostInstances pauses s for a time. It reports an error if the watch yields fewer than half of the instances without an error
// beside them, and waits until all instances are registered and the watch yields them all without an error.
func (f *Fleet) KeepsMostInstances(s Server, lasts time.Duration) {
	f.t.Helper()
	f.waitUntilComplete()
	before, began := len(f.yielded()), time.Now()
	s.Stop()
	<-time.After(lasts) // the length of a pause is part of the fault: nothing tells that it was long enough
	s.Continue()
	continued := time.Now()
	<-time.After(thaw) // nothing tells that the server will expire no more
	f.waitUntilComplete()

	var history strings.Builder
	fewest := len(f.registrations)
	for _, p := range f.yielded()[before:] {
		fmt.Fprintf(&history, "\n\tafter %v: %d instances, error: %v", p.at.Sub(began).Round(time.Millisecond), p.instances, p.err)
		if p.err == nil {
			fewest = min(fewest, p.instances)
		}
	}
	f.t.Logf("paused for %v; the fewest instances without an error were %d of %d%s",
		continued.Sub(began).Round(time.Millisecond), fewest, len(f.registrations), history.String())
	if fewest < len(f.registrations)/2 {
		f.t.Errorf("the watch yields %d of %d instances without an error", fewest, len(f.registrations))
	}
}

// waitUntilComplete waits until all instances are registered, and the last pair of the watch has them all and no error.
func (f *Fleet) waitUntilComplete() {
	f.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(fleetTimeout); !f.isComplete(); <-tick.C {
		if time.Now().After(deadline) {
			f.t.Fatalf("after %v the fleet is not complete: the watch has yielded %+v", fleetTimeout, f.yielded())
		}
	}
}

func (f *Fleet) isComplete() bool {
	for _, g := range f.registrations {
		if g.Err() != nil {
			return false
		}
	}
	all := f.yielded()
	if len(all) == 0 {
		return false
	}
	last := all[len(all)-1]
	return last.err == nil && last.instances == len(f.registrations)
}

// yielded returns all pairs so far.
func (f *Fleet) yielded() []fleetPair {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pairs[:len(f.pairs):len(f.pairs)]
}
