package etcd

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/rollcall-go/rollcall/etcd/internal/conn"
	"github.com/rollcall-go/rollcall/registry"
)

// verifyEach is the number of renewals after which the entry is read, in case the entry watch hangs.
const verifyEach = 12

// Renew implements [registry.Lease].
func (l *lease) Renew(ctx context.Context) error {
	err := l.renewAndVerify(ctx)
	if errors.Is(err, registry.ErrReplaced) {
		_ = l.d.revoke(ctx, l.key, l.id) // it has no entry; if this fails, it expires
	}
	l.noteDenied(err)
	return err
}

func (l *lease) renewAndVerify(ctx context.Context) error {
	err := l.renewNow(ctx)
	if conn.IsGone(err) {
		// The lease has expired or was revoked, and the entry with it. Another registration may have written one since.
		if err := l.verify(ctx); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	l.renewals.n++
	if l.renewals.n%verifyEach == 0 {
		return l.verify(ctx)
	}
	return nil
}

// renewNow makes one attempt to renew the lease. It keeps the stream for the next attempt.
func (l *lease) renewNow(ctx context.Context) error {
	var err error
	r := l.renewals.begin()
	if r == nil {
		r, err = l.d.openRenewal(ctx, l.key)
	}
	tokenRefused := false
	if err == nil {
		tokenRefused, err = r.renew(ctx, l.id, l.ttl)
	}
	if tokenRefused {
		// A stream keeps its first token. A call fetches another token, and the next stream uses that.
		r.cancel()
		if _, err = l.d.conn.Read(ctx, "read "+l.key, &pb.RangeRequest{Key: []byte(l.key)}); err == nil {
			if r, err = l.d.openRenewal(ctx, l.key); err == nil {
				_, err = r.renew(ctx, l.id, l.ttl)
			}
		}
	}
	if err != nil && r != nil {
		r.cancel()
		r = nil
	}
	l.renewals.keep(r)
	return err
}

// renewals keep the stream of a lease between renewals. One renewal runs at a time.
type renewals struct {
	n int // used by Renew alone

	mu     sync.Mutex
	stream *renewal // nil if there is none, or a renewal uses it
	ended  bool     // no stream is kept
}

// begin returns the stream for a renewal, or nil if one has to be opened.
func (r *renewals) begin() *renewal {
	r.mu.Lock()
	defer r.mu.Unlock()
	stream := r.stream
	r.stream = nil
	return stream
}

// keep takes the stream back, or nil if it was ended.
func (r *renewals) keep(stream *renewal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended && stream != nil {
		stream.cancel()
		return
	}
	r.stream = stream
}

// end ends the stream, now or after the renewal that uses it.
func (r *renewals) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	if r.stream != nil {
		r.stream.cancel()
		r.stream = nil
	}
}

// renewal is a stream on which a lease is renewed. Opening one for each renewal would double the cost.
type renewal struct {
	d      *driver
	what   string
	stream pb.Lease_LeaseKeepAliveClient
	cancel context.CancelFunc
	late   atomic.Bool // the stream was ended because an answer was late
}

func (d *driver) openRenewal(ctx context.Context, key string) (*renewal, error) {
	r := &renewal{d: d, what: "renew the lease of " + key}
	err := d.conn.Call(ctx, r.what, func(ctx context.Context) (err error) {
		r.stream, r.cancel, err = conn.OpenStream(ctx, &r.late, func(ctx context.Context) (pb.Lease_LeaseKeepAliveClient, error) {
			return d.conn.Leases.LeaseKeepAlive(ctx)
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// renew renews the lease once, and waits until the next renewal is due at most. It reports whether etcd refused the token. After an error the
// stream cannot be used again.
func (r *renewal) renew(ctx context.Context, id int64, ttl time.Duration) (tokenRefused bool, err error) {
	limit := min(ttl/3, r.d.conn.Timeout)
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	defer context.AfterFunc(limited, func() {
		r.late.Store(errors.Is(limited.Err(), context.DeadlineExceeded))
		r.cancel()
	})()
	err = r.stream.Send(&pb.LeaseKeepAliveRequest{ID: id})
	var answer *pb.LeaseKeepAliveResponse
	if err == nil {
		answer, err = r.stream.Recv()
	}
	if err == nil {
		err = conn.CheckRenewal(id, ttl, answer)
	}
	switch {
	case err != nil && r.late.Load() && ctx.Err() == nil:
		return false, r.d.conn.Unavailable(r.what, fmt.Sprintf("no answer within %v", limit))
	case err != nil:
		return conn.Stale(err), r.d.conn.Classify(ctx, r.what, limit, err)
	case answer.TTL == 0:
		return false, r.d.conn.Gone(r.what, "etcd does not know the lease")
	}
	return false, nil
}
