//go:build wireinject

package main

import (
	"github.com/google/wire"

	"github.com/rollcall-go/rollcall/consul"
)

func initDirectory(c consul.Config) (*directory, func(), error) {
	wire.Build(consul.ProviderSet, newDirectory)
	return nil, nil, nil
}
