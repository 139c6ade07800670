package watchtest

import (
	"testing"

	"github.com/rollcall-go/rollcall/registry"
)

// Update changes the instance of a registration, and fails the test if that fails.
func Update(t testing.TB, g registry.Registration, change func(*registry.Instance)) {
	t.Helper()
	in := g.Instance()
	change(&in)
	if err := g.Update(Context(t), in); err != nil {
		t.Fatal(err)
	}
}
