package etcd

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/rollcall-go/rollcall/registry"
)

// verifyEach is the number of renewals after which the entry is read, should the watch of it hang.
const verifyEach = 12

// renewals renews the lease each third of its TTL, until that fails.
func (l *lease) renewals(ctx context.Context) error {
	r, err := l.openRenewal(ctx)
	if err != nil {
		return err
	}
	defer func() { r.close() }()
	tick := time.NewTicker(l.ttl / 3)
	defer tick.Stop()
	for n := 1; ; n++ {
		if n > 1 || !l.overdue {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-tick.C:
			}
		}
		err := r.renew(ctx)
		if err != nil && r.stale {
			// The stream keeps the token that it began with. A call gets another one, and then a stream does.
			if _, err := l.verify(ctx); err != nil {
				return err
			}
			r.close()
			if r, err = l.openRenewal(ctx); err == nil {
				err = r.renew(ctx)
			}
		}
		if err != nil {
			return err
		}
		if n%verifyEach == 0 {
			if _, err := l.verify(ctx); err != nil {
				return err
			}
		}
	}
}

// renewal is the stream on which a lease is renewed: opening one for each renewal would cost as much again.
type renewal struct {
	l      *lease
	what   string
	stream pb.Lease_LeaseKeepAliveClient
	cancel context.CancelFunc
	detach func() bool // from the context that ends it
	late   atomic.Bool // it was ended since an answer was late
	stale  bool        // its token was refused
}

func (l *lease) openRenewal(ctx context.Context) (*renewal, error) {
	r := &renewal{l: l, what: "renew the lease of " + l.key, cancel: func() {}}
	err := l.d.call(ctx, r.what, func(ctx context.Context) (err error) {
		r.stream, r.cancel, err = open(context.WithValue(ctx, lateness{}, &r.late), func(ctx context.Context) (pb.Lease_LeaseKeepAliveClient, error) {
			return l.d.leases.LeaseKeepAlive(ctx)
		})
		return err
	})
	r.detach = context.AfterFunc(ctx, r.cancel)
	return r, err
}

func (r *renewal) close() {
	r.detach()
	r.cancel()
}

// renew renews the lease once. It does not wait for longer than until the next time.
func (r *renewal) renew(ctx context.Context) error {
	limit := min(r.l.ttl/3, r.l.d.settings.Timeout)
	timer := time.AfterFunc(limit, func() {
		r.late.Store(true)
		r.cancel()
	})
	defer timer.Stop()
	err := r.stream.Send(&pb.LeaseKeepAliveRequest{ID: r.l.id})
	var answer *pb.LeaseKeepAliveResponse
	if err == nil {
		answer, err = r.stream.Recv()
	}
	r.stale = stale(err)
	switch {
	case err != nil && r.late.Load() && ctx.Err() == nil:
		return r.l.d.unavailable(r.what, fmt.Sprintf("no answer within %v", limit))
	case err != nil:
		return r.l.d.classify(ctx, r.what, limit, err)
	case answer.TTL > 0:
		return nil
	}
	// The lease has expired or was revoked, and the entry with it; unless another has that.
	if _, err := r.l.verify(ctx); err != nil {
		return err
	}
	return r.l.d.failure(registry.ErrUnavailable, r.what, "etcd does not know it any more", true)
}
