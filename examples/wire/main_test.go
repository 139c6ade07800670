package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/rollcall-go/rollcall/internal/testbed"
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
