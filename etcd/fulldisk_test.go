package etcd

import (
	"context"
	"sync/atomic"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
)

// fullDisk simulates an etcd whose database has no space left: it refuses to put keys, but renews leases, reads and deletes.
type fullDisk struct{ full atomic.Bool }

// refuse fills the disk until the function that it returns is called.
func (d *fullDisk) refuse(*testing.T) (heal func()) {
	d.full.Store(true)
	return func() { d.full.Store(false) }
}

func (d *fullDisk) option() grpc.DialOption {
	return grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		if d.full.Load() && puts(req) {
			return rpctypes.ErrGRPCNoSpace
		}
		return call(ctx, method, req, reply, cc, opts...)
	})
}

func puts(req any) bool {
	switch r := req.(type) {
	case *pb.PutRequest:
		return true
	case *pb.TxnRequest:
		for _, ops := range [][]*pb.RequestOp{r.Success, r.Failure} {
			for _, op := range ops {
				if op.GetRequestPut() != nil || op.GetRequestTxn() != nil && puts(op.GetRequestTxn()) {
					return true
				}
			}
		}
	}
	return false
}
