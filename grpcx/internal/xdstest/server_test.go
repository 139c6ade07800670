package xdstest

import (
	"google.golang.org/grpc/xds"

	"github.com/rollcall-go/rollcall/grpcx"
)

// A server that gets its settings by xDS registers like any other.
var _ grpcx.GRPCServer = (*xds.GRPCServer)(nil)
