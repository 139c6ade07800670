//go:build wireinject

package main

import (
	"github.com/google/wire"

	"github.com/rollcall-go/rollcall/consul"
	"github.com/rollcall-go/rollcall/consul/consulwire"
	"github.com/rollcall-go/rollcall/memory/memorywire"
)

func initOnConsul(c consul.Config) (*directory, func(), error) {
	wire.Build(consulwire.ProviderSet, newDirectory)
	return nil, nil, nil
}

func initEmbedded() (*directory, func()) {
	wire.Build(memorywire.ProviderSet, newDirectory)
	return nil, nil
}
