package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
)

func TestTheInjectedDirectoryFindsConsulItself(t *testing.T) {
	agent := testbed.StartConsul(t)
	var out bytes.Buffer
	if err := run(t.Context(), &out, agent.Addr(), "consul"); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(out.String(), "consul: 127.0.0.1:") {
		t.Errorf("it prints %q", out.String())
	}
	if err := run(t.Context(), &out, "not an address", "consul"); err == nil {
		t.Error("an address that cannot be used is accepted")
	}
}

func TestTheEmbeddedDirectory(t *testing.T) {
	d, cleanup := initEmbedded()
	if got, err := d.addresses(t.Context(), "anything"); err != nil || len(got) != 0 {
		t.Errorf("an empty store has %q, %v", got, err)
	}
	cleanup()
	if _, err := d.addresses(t.Context(), "anything"); !errors.Is(err, registry.ErrClosed) {
		t.Errorf("after the cleanup it says %v", err)
	}
}
