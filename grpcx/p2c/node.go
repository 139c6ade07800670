package p2c

import (
	"sync/atomic"

	"google.golang.org/grpc/balancer"

	"github.com/rollcall-go/rollcall/internal/load"
)

// node is a load.Node for gRPC.
type node struct {
	load.Node

	end   func(balancer.DoneInfo)
	decay atomic.Int64 // of the policy; here, so that the end of a measured call needs no other data
	_     [8]byte      // fills a cache line, so that calls of different instances do not slow each other
}

func newNode() *node {
	n := new(node)
	n.Init()
	n.end = func(info balancer.DoneInfo) {
		n.End()
		if info.Err != nil || n.HasFaults() {
			n.Judge(verdict(info))
		}
	}
	return n
}
