//go:build !linux

package main

import (
	"os"
	"testing"
)

func newTerminal(t *testing.T) (*os.File, func() string) {
	t.Fatal("only on Linux")
	return nil, nil
}
