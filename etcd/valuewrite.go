package etcd

import (
	"context"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/rollcall-go/rollcall/registry"
)

// putValue is the PutValue of the driver's properties.
func (d *driver) putValue(ctx context.Context, key string, data []byte, o registry.PutOptions) (*registry.Value, error) {
	d.conn.ReconnectNow(ctx)
	name := d.valueKey(key)
	put := &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: name, Value: data}}}
	revision, err := d.writeValue(ctx, "put the value of "+key, name, o, put)
	if err != nil {
		return nil, err
	}
	return &registry.Value{Key: key, Data: data, Revision: uint64(revision)}, nil
}

// deleteValue is the DeleteValue of the driver's properties.
func (d *driver) deleteValue(ctx context.Context, key string, o registry.PutOptions) error {
	d.conn.ReconnectNow(ctx)
	name, what := d.valueKey(key), "delete the value of "+key
	request := &pb.DeleteRangeRequest{Key: name}
	if o == (registry.PutOptions{}) { // etcd 3.4 refuses every transaction while it has no space
		return d.conn.Call(ctx, what, func(ctx context.Context) error {
			_, err := d.conn.KV.DeleteRange(ctx, request)
			return err
		})
	}
	_, err := d.writeValue(ctx, what, name, o, &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: request}})
	return err
}

// writeValue writes if the conditions are met, and returns the revision of the write.
func (d *driver) writeValue(ctx context.Context, what string, key []byte, o registry.PutOptions, write *pb.RequestOp) (revision int64, err error) {
	request := &pb.TxnRequest{Success: []*pb.RequestOp{write}}
	if o != (registry.PutOptions{}) {
		// A key that does not exist has revision 0.
		request.Compare = []*pb.Compare{{
			Key: key, Target: pb.Compare_MOD, Result: pb.Compare_EQUAL, TargetUnion: &pb.Compare_ModRevision{ModRevision: int64(o.IfRevision)},
		}}
	}
	var answer *pb.TxnResponse
	err = d.conn.Call(ctx, what, func(ctx context.Context) (err error) {
		answer, err = d.conn.KV.Txn(ctx, request)
		return err
	})
	switch {
	case err != nil:
		return 0, err
	case !answer.Succeeded:
		return 0, fmt.Errorf("%w: %s: %s: the key has another revision", registry.ErrConflict, d.conn.Place(), what)
	}
	return answer.Header.Revision, nil
}
