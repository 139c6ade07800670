package etcd

import (
	"context"
	"fmt"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/rollcall-go/rollcall/etcd/internal/conn"
	"github.com/rollcall-go/rollcall/etcd/internal/format"
)

// pageSize bounds the entries of one answer of a long list, so that no answer takes a member long or exceeds conn.MaxMessage.
const pageSize = 1000

const (
	// maxValue bounds the value of one entry, in bytes. A larger one is left out as unreadable.
	maxValue = 1 << 20
	// maxSet bounds the cost of the entries of one service: their keys and values, and conn.EntryCost for each, in bytes. It has room for
	// 50,000 entries of 2 KiB.
	maxSet = 128 << 20
)

// paging is the size of the next page of a list.
type paging struct {
	most     int64 // entries of a usual page
	limit    int64 // entries of the next page
	keysOnly bool  // the next page is one entry that is too large to be read
}

// smaller makes the next page smaller, if err says that the last one was too large. It reports whether to try again.
func (p *paging) smaller(err error) bool {
	if !conn.IsTooLarge(err) || p.keysOnly {
		return false
	}
	p.keysOnly = p.limit == 1
	p.limit = max(1, p.limit/8)
	return true
}

// read notes that a page was read.
func (p *paging) read() {
	if p.keysOnly {
		p.limit, p.keysOnly = p.most, false
	}
}

// list calls each for all entries whose keys begin with prefix, in their order and at one revision. It returns that revision and the cost of
// the entries, and fails if the cost exceeds maxSet. An entry that is too large to be read has no value.
func (d *driver) list(ctx context.Context, what, prefix string, each func(kv *mvccpb.KeyValue)) (revision int64, size int, err error) {
	next, end, p := []byte(prefix), []byte(format.PrefixEnd(prefix)), paging{most: pageSize, limit: pageSize}
	for {
		page, err := d.conn.Read(ctx, what, &pb.RangeRequest{Key: next, RangeEnd: end, Revision: revision, Limit: p.limit, KeysOnly: p.keysOnly})
		if p.smaller(err) {
			continue
		}
		if err != nil {
			return 0, 0, err
		}
		p.read()
		if revision == 0 {
			revision = page.Header.Revision
		}
		for _, kv := range page.Kvs {
			if ctx.Err() != nil {
				return 0, 0, ctx.Err()
			}
			size += conn.Cost(kv)
			if size > maxSet {
				return 0, 0, d.conn.Unavailable(what, fmt.Sprintf("the entries have more than %d MiB, counting %d bytes more for each", maxSet>>20, conn.EntryCost))
			}
			each(kv)
		}
		if !page.More {
			return revision, size, nil
		}
		next = append(slices.Clone(page.Kvs[len(page.Kvs)-1].Key), 0)
	}
}
