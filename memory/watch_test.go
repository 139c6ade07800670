package memory_test

import (
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

// newStoreSeenEmpty returns a store, and another client of it whose Lookup has found nothing.
func newStoreSeenEmpty(t *testing.T) (server, client *memory.Registry) {
	t.Helper()
	server = watchtest.NewMemory(t, registry.Options{})
	client = watchtest.NewMemoryClient(t, server)
	if set, err := client.Lookup(t.Context(), web); err != nil || len(set) != 0 {
		t.Fatalf("the empty store has %v, %v", set, err)
	}
	return server, client
}

// A watch that begins after a Lookup has found an instance begins with that instance, although the shared watch pauses after its first
// read, which found nothing.
func TestWatch_BeginsWithWhatALookupFound(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		server, client := newStoreSeenEmpty(t)
		watchtest.Register(t, server, instance("a"))
		if set, err := client.Lookup(t.Context(), web); err != nil || len(set) != 1 {
			t.Fatalf("Lookup returns %v, %v", set, err)
		}
		start := time.Now()
		for set, err := range client.Watch(t.Context(), web) {
			if err != nil || len(set) != 1 {
				t.Errorf("Watch begins with %v, %v", set, err)
			}
			break
		}
		if waited := time.Since(start); waited >= registry.LookupPause {
			t.Errorf("the first pair came after %v", waited)
		}
	})
}

// A set that is the same again, although the store has changed in between, keeps no watch from beginning.
func TestWatch_BeginsIfTheStoreHasTheSameSetAgain(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		server, client := newStoreSeenEmpty(t)
		if err := watchtest.Register(t, server, instance("a")).Deregister(t.Context()); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		for set, err := range client.Watch(t.Context(), web) {
			if err != nil || len(set) != 0 {
				t.Errorf("Watch begins with %v, %v", set, err)
			}
			break
		}
		if waited := time.Since(start); waited > time.Second {
			t.Errorf("the first pair came after %v", waited)
		}
	})
}
