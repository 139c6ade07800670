// Package watchtest has what the tests of several packages need to open a Registry, to register, and to wait for what it sees.
package watchtest

import (
	"log/slog"
	"testing"

	"github.com/rollcall-go/rollcall/registry"
)

// NewRegistry returns a Registry over d that is closed with the test, if not before. Without a Logger it logs nothing.
func NewRegistry(t testing.TB, d registry.Driver, o registry.Options) *registry.Registry {
	t.Helper()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	r, err := registry.New(d, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}
