package etcd

import (
	"context"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// revision reads the revision of the store, linearizably. It asks for a key that the caller may read.
func (d *driver) revision(ctx context.Context, what, key string) (int64, error) {
	answer, err := d.page(ctx, what, &pb.RangeRequest{Key: []byte(key), CountOnly: true})
	if err != nil {
		return 0, err
	}
	return answer.Header.Revision, nil
}

// recent is the revision that was read last. It is one for all of the store: of many watches that are silent, one asks.
type recent struct {
	mu       sync.Mutex
	revision int64
	began    time.Time // when it was asked for; it may be newer
}

// recentRevision is revision, as it was no longer ago than age.
func (d *driver) recentRevision(ctx context.Context, what, key string, age time.Duration) (int64, error) {
	began := time.Now()
	d.recent.mu.Lock()
	revision, known := d.recent.revision, began.Sub(d.recent.began) < age
	d.recent.mu.Unlock()
	if known {
		return revision, nil
	}
	revision, err := d.revision(ctx, what, key)
	if err != nil {
		return 0, err
	}
	d.recent.mu.Lock()
	defer d.recent.mu.Unlock()
	if began.After(d.recent.began) {
		d.recent.revision, d.recent.began = revision, began
	}
	return revision, nil
}
