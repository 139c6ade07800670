package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

func TestInitialize_FindsServicesInConsul(t *testing.T) {
	agent := testbed.StartConsul(t)
	var out bytes.Buffer
	// A server adds itself to the catalog a moment after it takes requests.
	watchtest.Eventually(t, "it to print the address of the server", func() bool {
		out.Reset()
		if err := run(t.Context(), &out, agent.Addr(), "consul"); err != nil {
			t.Fatal(err)
		}
		return strings.HasPrefix(out.String(), "consul: 127.0.0.1:")
	})
	if err := run(t.Context(), &out, "not an address", "consul"); err == nil {
		t.Error("an address that cannot be used is accepted")
	}
}

func TestInitialize_FindsServicesInMemory(t *testing.T) {
	d, cleanup := initEmbedded()
	if got, err := d.addresses(t.Context(), "anything"); err != nil || len(got) != 0 {
		t.Errorf("an empty store has %q, %v", got, err)
	}
	cleanup()
	if _, err := d.addresses(t.Context(), "anything"); !errors.Is(err, registry.ErrClosed) {
		t.Errorf("after the cleanup it says %v", err)
	}
}
