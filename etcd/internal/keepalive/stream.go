package keepalive

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/rollcall-go/rollcall/etcd/internal/conn"
)

// stream carries the renewals of all leases. A member answers in order; etcd's own proxy (etcd grpc-proxy) answers the renewals of each lease in
// order. So an answer belongs to the oldest renewal of its lease.
type stream struct {
	rpc    pb.Lease_LeaseKeepAliveClient
	cancel context.CancelFunc
	token  string
	late   atomic.Bool // the stream was ended because an answer was late

	sending sync.Mutex // locked while renewals are sent; locked before mu

	mu       sync.Mutex
	unsent   []*renewal  // which wait for others
	flushing *time.Timer // sends them; nil while there are none
	waiting  []*renewal  // sent and not answered, the oldest first
	deadline *time.Timer // ends the stream if the oldest is not answered; nil before the first
	armed    bool        // the timer deadline runs
	retired  bool        // the stream ends as soon as no caller waits for an answer
	ended    bool
}

// renewal is one attempt to renew a lease.
type renewal struct {
	id        int64
	ttl       time.Duration
	deadline  time.Time
	abandoned bool // its caller has stopped waiting; guarded by stream.mu

	done    chan struct{} // closed when what follows is set
	unknown bool          // etcd does not know the lease
	err     error         // that ended the stream
	oldest  bool          // it was the oldest when the stream ended
}

// add sends r within the window. It reports false if the stream has ended, or is about to.
func (st *stream) add(r *renewal, window time.Duration) bool {
	st.mu.Lock()
	if st.ended || st.retired {
		st.mu.Unlock()
		return false
	}
	st.unsent = append(st.unsent, r)
	if window > 0 && st.flushing == nil {
		st.flushing = time.AfterFunc(window, st.flush)
	}
	st.mu.Unlock()
	if window == 0 {
		st.flush()
	}
	return true
}

// flush sends what is unsent. A member that hangs may block it until the oldest renewal is late.
func (st *stream) flush() {
	st.sending.Lock()
	defer st.sending.Unlock()
	st.mu.Lock()
	if st.flushing != nil {
		st.flushing.Stop()
		st.flushing = nil
	}
	all := slices.DeleteFunc(st.unsent, func(r *renewal) bool { return r.abandoned })
	st.unsent = nil
	st.waiting = append(st.waiting, all...)
	st.arm()
	st.mu.Unlock()
	for _, r := range all {
		if err := st.rpc.Send(&pb.LeaseKeepAliveRequest{ID: r.id}); err != nil {
			if !errors.Is(err, io.EOF) { // otherwise receive gets the reason
				st.mu.Lock()
				st.end(err)
				st.mu.Unlock()
			}
			return
		}
	}
}

// arm has the timer end the stream when the oldest renewal is late. The caller has locked mu.
func (st *stream) arm() {
	if st.armed || st.ended || len(st.waiting) == 0 {
		return
	}
	st.armed = true
	left := time.Until(st.waiting[0].deadline)
	if st.deadline == nil {
		st.deadline = time.AfterFunc(left, st.checkLate)
		return
	}
	st.deadline.Reset(left)
}

// checkLate ends the stream if the oldest renewal is late.
func (st *stream) checkLate() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.armed = false
	if len(st.waiting) > 0 && !time.Now().Before(st.waiting[0].deadline) {
		st.endLate()
	}
	st.arm()
}

// endLate ends the stream because an answer is late. The caller has locked mu.
func (st *stream) endLate() {
	if !st.ended {
		st.late.Store(true)
		st.end(conn.ErrLate)
	}
}

// abandon notes that the caller of r has stopped waiting. If most of limit has passed, the answer is late, and the member is avoided: the deadline
// of the caller may be a moment before the deadline of r.
func (st *stream) abandon(r *renewal, limit time.Duration) {
	st.mu.Lock()
	defer st.mu.Unlock()
	r.abandoned = true
	if slices.Contains(st.waiting, r) && time.Until(r.deadline) < limit/10 {
		st.endLate()
	}
	st.endIfUnused()
}

// receive passes on the answers until the stream ends.
func (st *stream) receive() {
	for {
		answer, err := st.rpc.Recv()
		st.mu.Lock()
		if err == nil {
			err = st.answered(answer)
		}
		if err != nil {
			st.end(err)
		}
		ended := st.ended
		st.mu.Unlock()
		if ended {
			return
		}
	}
}

// answered passes on answer. An error means that no etcd gives such an answer. The caller has locked mu.
func (st *stream) answered(answer *pb.LeaseKeepAliveResponse) error {
	if len(st.waiting) == 0 {
		return conn.Malformed("lease %d was renewed without a request", answer.ID)
	}
	i := max(0, slices.IndexFunc(st.waiting, func(r *renewal) bool { return r.id == answer.ID }))
	r := st.waiting[i]
	if err := conn.CheckRenewal(r.id, r.ttl, answer); err != nil {
		return err
	}
	st.waiting = slices.Delete(st.waiting, i, i+1)
	r.unknown = answer.TTL == 0
	close(r.done)
	st.endIfUnused()
	return nil
}

// retire ends the stream as soon as no caller waits for an answer.
func (st *stream) retire() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.retired = true
	st.endIfUnused()
}

// endIfUnused ends a retired stream if no caller waits for an answer. The caller has locked mu.
func (st *stream) endIfUnused() {
	isWaitedFor := func(r *renewal) bool { return !r.abandoned }
	if st.retired && !slices.ContainsFunc(st.unsent, isWaitedFor) && !slices.ContainsFunc(st.waiting, isWaitedFor) {
		st.end(context.Canceled)
	}
}

func (st *stream) hasEnded() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.ended
}

// end ends the stream, and all its renewals with err. The caller has locked mu.
func (st *stream) end(err error) {
	if st.ended {
		return
	}
	st.ended = true
	st.cancel()
	for _, timer := range []*time.Timer{st.flushing, st.deadline} {
		if timer != nil {
			timer.Stop()
		}
	}
	for i, r := range append(st.waiting, st.unsent...) {
		r.err, r.oldest = err, i == 0 && len(st.waiting) > 0
		close(r.done)
	}
	st.waiting, st.unsent = nil, nil
}
