package watch

import (
	"context"
	"fmt"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// revision reads the revision of the store, linearizably. It asks for a key that the caller may read.
func (s *Streams) revision(ctx context.Context, what, key string) (int64, error) {
	answer, err := s.conn.Read(ctx, what, &pb.RangeRequest{Key: []byte(key), CountOnly: true})
	if err != nil {
		return 0, err
	}
	return answer.Header.Revision, nil
}

// recentRevision shares one read of the revision among many unverified watches: one of them reads, and the others wait for its answer.
type recentRevision struct {
	mu   sync.Mutex
	last *revisionRead // nil before the first
}

type revisionRead struct {
	began    time.Time
	done     chan struct{} // closed when what follows is set
	revision int64
	err      error
}

// revisionSince returns the revision of the store at some time after since. It reads it, unless another caller has begun to read it by
// then.
func (s *Streams) revisionSince(ctx context.Context, what, key string, since time.Time) (int64, error) {
	s.recent.mu.Lock()
	r := s.recent.last
	mine := r == nil || r.began.Before(since)
	if mine {
		r = &revisionRead{began: time.Now(), done: make(chan struct{})}
		s.recent.last = r
	}
	s.recent.mu.Unlock()
	if mine {
		r.revision, r.err = s.revision(ctx, what, key)
		close(r.done)
		return r.revision, r.err
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if r.err != nil { // the reason may concern the other caller alone
		return s.revision(ctx, what, key)
	}
	return r.revision, nil
}

// checkRevision returns an error if the store, which is at revision now, was wiped or restored.
func (w *Watch) checkRevision(now int64) error {
	if newest := w.newest.Load(); now < newest {
		return w.conn.Unavailable(w.what, fmt.Sprintf("the store was wiped or restored: its revision fell from %d to %d", newest, now))
	}
	return nil
}
