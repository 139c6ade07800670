package etcd

import (
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/rollcall-go/rollcall/etcd/internal/conn"
	"github.com/rollcall-go/rollcall/registry"
)

// write makes one attempt to put value under key, on the lease, if nothing was written there after revision known and the further
// conditions are true. It returns the revision of the write. If a condition is false, it returns 0 and the present entry, which is nil if
// there is none.
//
// The conditions protect from delayed writes: a write that seems to have failed may be carried out later, such as when a member that
// hung continues. It then finds what was written after it, and changes nothing.
func (d *driver) write(ctx context.Context, key string, value []byte, lease, known int64, further ...*pb.Compare) (int64, *mvccpb.KeyValue, error) {
	unchanged := &pb.Compare{
		Key: []byte(key), Target: pb.Compare_MOD, Result: pb.Compare_LESS,
		TargetUnion: &pb.Compare_ModRevision{ModRevision: known + 1},
	}
	var answer *pb.TxnResponse
	err := d.conn.Call(ctx, "write "+key, func(ctx context.Context) (err error) {
		answer, err = d.conn.KV.Txn(ctx, &pb.TxnRequest{
			Compare: append([]*pb.Compare{unchanged}, further...),
			Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{
				RequestPut: &pb.PutRequest{Key: []byte(key), Value: value, Lease: lease},
			}}},
			Failure: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte(key)}}}},
		})
		return err
	})
	if err != nil {
		return 0, nil, err
	}
	if answer.Succeeded {
		return answer.Header.Revision, nil, nil
	}
	for _, r := range answer.Responses {
		for _, kv := range r.GetResponseRange().GetKvs() {
			return 0, kv, nil
		}
	}
	return 0, nil, nil
}

// onLease is the condition that the entry hangs on the lease.
func onLease(key string, id int64) *pb.Compare {
	return &pb.Compare{Key: []byte(key), Target: pb.Compare_LEASE, Result: pb.Compare_EQUAL, TargetUnion: &pb.Compare_Lease{Lease: id}}
}

// revoke ends a lease, and removes the entry on it in the same step. It is no error if etcd does not know the lease.
func (d *driver) revoke(ctx context.Context, key string, id int64) error {
	err := d.conn.Call(ctx, "revoke the lease of "+key, func(ctx context.Context) error {
		_, err := d.conn.Leases.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: id})
		return err
	})
	if conn.IsGone(err) {
		return d.confirmGone(ctx, key, id)
	}
	return err
}

// confirmGone returns an error if the entry hangs on a lease that etcd says it does not know. The two answers then come from members of
// different clusters.
func (d *driver) confirmGone(ctx context.Context, key string, id int64) error {
	what := "read " + key
	page, err := d.conn.Read(ctx, what, &pb.RangeRequest{Key: []byte(key)})
	switch {
	case errors.Is(err, registry.ErrDenied):
		return nil // leases need no permission, so the first answer is reliable
	case err == nil && len(page.Kvs) > 0 && page.Kvs[0].Lease == id:
		return d.conn.Unavailable(what, "the entry exists, but etcd says that its lease does not")
	}
	return err
}
