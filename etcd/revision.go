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

// recent is the last reading of the revision. It is one for all of the store: of many watches that are in doubt, one asks, and
// the others wait for its answer.
type recent struct {
	mu   sync.Mutex
	last *reading // that somebody has begun; nil where nobody has
}

type reading struct {
	began    time.Time
	done     chan struct{} // closed when what follows is set
	revision int64
	err      error
}

// recentRevision is revision for a watch that has been in doubt since then: what was read after that will do.
func (d *driver) recentRevision(ctx context.Context, what, key string, since time.Time) (int64, error) {
	d.recent.mu.Lock()
	r := d.recent.last
	mine := r == nil || r.began.Before(since)
	if mine {
		r = &reading{began: time.Now(), done: make(chan struct{})}
		d.recent.last = r
	}
	d.recent.mu.Unlock()
	if mine {
		r.revision, r.err = d.revision(ctx, what, key)
		close(r.done)
		return r.revision, r.err
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if r.err != nil { // for a reason that may be its own
		return d.revision(ctx, what, key)
	}
	return r.revision, nil
}
