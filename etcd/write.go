package etcd

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// write makes one attempt to put value under key, on the lease, provided that nothing was written there after revision
// known, and that the further conditions hold. It returns the revision of that, or 0 and the entry that stands there, nil
// where there is none.
//
// The condition is for a write that seems to have failed and is late instead, as one is that a member which hangs reads
// when it goes on: it finds what was written after it, and comes to nothing.
func (d *driver) write(ctx context.Context, key string, value []byte, lease, known int64, further ...*pb.Compare) (int64, *mvccpb.KeyValue, error) {
	unchanged := &pb.Compare{
		Key: []byte(key), Target: pb.Compare_MOD, Result: pb.Compare_LESS,
		TargetUnion: &pb.Compare_ModRevision{ModRevision: known + 1},
	}
	var answer *pb.TxnResponse
	err := d.call(ctx, "write "+key, func(ctx context.Context) (err error) {
		answer, err = d.kv.Txn(ctx, &pb.TxnRequest{
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

// heldBy is the condition that the entry hangs on the lease.
func heldBy(key string, id int64) *pb.Compare {
	return &pb.Compare{Key: []byte(key), Target: pb.Compare_LEASE, Result: pb.Compare_EQUAL, TargetUnion: &pb.Compare_Lease{Lease: id}}
}
