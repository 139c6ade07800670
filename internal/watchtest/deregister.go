package watchtest

import (
	"testing"

	"github.com/rollcall-go/rollcall/registry"
)

// Deregister deregisters g, and fails the test if that fails.
func Deregister(t testing.TB, g registry.Registration) {
	t.Helper()
	if err := g.Deregister(Context(t)); err != nil {
		t.Fatal(err)
	}
}
