package registrytest_test

import (
	"testing"
	"testing/synctest"

	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/registrytest"
)

// The test of a backend, without hooks. Its cases for outages, losses and idleness are skipped, each with a line that names the hook.
func ExampleRun() {
	_ = func(t *testing.T) { // func TestConformance(t *testing.T)
		store := memory.New()
		defer store.Close()
		registrytest.Run(t, registrytest.Config{
			New: func(*testing.T) *registry.Registry { return store.Client().Registry },
		})
	}
}

// A backend whose store is in this process runs each case in a bubble, in which waiting takes no time.
func ExampleConfig() {
	var store *memory.Registry
	_ = registrytest.Config{
		New:    func(*testing.T) *registry.Registry { return store.Client().Registry },
		Around: synctest.Test,
		Lose:   func(t *testing.T, in registry.Instance) { store.Expire(in.Service, in.ID) },
		Calls:  func(*testing.T) int { return store.Calls() },
	}
}
