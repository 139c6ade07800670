//go:build wireinject

package main

import (
	"github.com/google/wire"

	"github.com/rollcall-go/rollcall/consul"
	"github.com/rollcall-go/rollcall/memory"
)

func initOnConsul(c consul.Config) (*directory, func(), error) {
	wire.Build(consul.ProviderSet, newDirectory)
	return nil, nil, nil
}

func initEmbedded() (*directory, func()) {
	wire.Build(memory.ProviderSet, newDirectory)
	return nil, nil
}
