// Package minimal imports what a program without gRPC imports.
package minimal

import (
	"github.com/rollcall-go/rollcall/consul"
	"github.com/rollcall-go/rollcall/registry"
)

// Open opens a registry.
func Open(address string) (*registry.Registry, error) {
	return consul.New(consul.Config{Address: address})
}
