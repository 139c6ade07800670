package memorywire_test

import (
	"errors"
	"testing"

	"github.com/rollcall-go/rollcall/memory/memorywire"
	"github.com/rollcall-go/rollcall/registry"
)

func TestProvide_CleanupClosesTheRegistry(t *testing.T) {
	r, cleanup := memorywire.Provide()
	cleanup()
	if _, err := r.Services(t.Context()); !errors.Is(err, registry.ErrClosed) {
		t.Errorf("after the cleanup: %v", err)
	}
}
