package registry_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/rollcall-go/rollcall/registry"
)

// TestOpeners_EmptyURL: the commonest cause is an environment variable that is not set.
func TestOpeners_EmptyURL(t *testing.T) {
	_, err := registry.Openers{"consul": nil, "memory": nil}.Open(t.Context(), "")
	if !errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), "URL is empty") || !strings.Contains(err.Error(), "consul, memory") {
		t.Errorf("Open returns %v", err)
	}
}
