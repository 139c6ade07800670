package consulwire_test

import (
	"errors"
	"testing"

	"github.com/rollcall-go/rollcall/consul"
	"github.com/rollcall-go/rollcall/consul/consulwire"
	"github.com/rollcall-go/rollcall/registry"
)

func TestProvide_CleanupClosesTheRegistry(t *testing.T) {
	r, cleanup, err := consulwire.Provide(consul.Config{})
	if err != nil {
		t.Fatal(err)
	}
	cleanup()
	if _, err := r.Services(t.Context()); !errors.Is(err, registry.ErrClosed) {
		t.Errorf("after the cleanup: %v", err)
	}
	if _, _, err := consulwire.Provide(consul.Config{TTL: 1}); !errors.Is(err, registry.ErrInvalid) {
		t.Errorf("a Config that cannot be used: %v", err)
	}
}
