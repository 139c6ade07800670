package etcd

import (
	"context"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// pageSize bounds one answer of a long list, so that no member is busy with one for long and each is within its limit.
const pageSize = 1000

// page makes one linearizable read.
func (d *driver) page(ctx context.Context, what string, r *pb.RangeRequest) (page *pb.RangeResponse, err error) {
	err = d.call(ctx, what, func(ctx context.Context) (err error) {
		page, err = d.kv.Range(ctx, r)
		return err
	})
	return page, err
}

// list reads all that begins with prefix, at one revision, which it returns.
func (d *driver) list(ctx context.Context, what, prefix string) (all []*mvccpb.KeyValue, revision int64, err error) {
	next, end := []byte(prefix), []byte(prefixEnd(prefix))
	for {
		page, err := d.page(ctx, what, &pb.RangeRequest{Key: next, RangeEnd: end, Revision: revision, Limit: pageSize})
		if err != nil {
			return nil, 0, err
		}
		if revision == 0 {
			revision = page.Header.Revision
		}
		all = append(all, page.Kvs...)
		if !page.More || len(page.Kvs) == 0 {
			return all, revision, nil
		}
		next = append(slices.Clone(page.Kvs[len(page.Kvs)-1].Key), 0)
	}
}
