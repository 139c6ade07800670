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

// recent is the revision that was read last. It is one for all of the store: of many watches that are silent, one asks, and the
// others wait for its answer.
type recent struct {
	mu       sync.Mutex
	revision int64
	began    time.Time     // when it was asked for; it may be newer
	asking   chan struct{} // closed when somebody who is asking has the answer; nil where nobody is
}

// recentRevision is revision for a watch that has been silent for so long: it may be that of a while ago, which began after the
// silence did.
func (d *driver) recentRevision(ctx context.Context, what, key string, silence time.Duration) (int64, error) {
	began := time.Now()
	d.recent.mu.Lock()
	asking := d.recent.asking
	if asking == nil && began.Sub(d.recent.began) >= silence/10 {
		d.recent.asking = make(chan struct{})
		d.recent.mu.Unlock()
		revision, err := d.revision(ctx, what, key)
		d.recent.mu.Lock()
		defer d.recent.mu.Unlock()
		close(d.recent.asking)
		d.recent.asking = nil
		if err == nil {
			d.recent.revision, d.recent.began = revision, began
		}
		return revision, err
	}
	d.recent.mu.Unlock()
	if asking != nil {
		select {
		case <-asking:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	d.recent.mu.Lock()
	revision, fresh := d.recent.revision, began.Sub(d.recent.began) < silence
	d.recent.mu.Unlock()
	if fresh {
		return revision, nil
	}
	return d.revision(ctx, what, key) // the other one failed, for a reason that may be its own
}
