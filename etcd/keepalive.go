package etcd

import (
	"context"
	"errors"
	"sync"

	"github.com/rollcall-go/rollcall/etcd/internal/conn"
	"github.com/rollcall-go/rollcall/etcd/internal/keepalive"
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
	l.renewals.begin(l.d.renewals)
	err := l.d.renewals.Renew(ctx, l.key, l.id, l.ttl)
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

// renewNow is Renew for a lease that has to be renewed at once, since nothing has renewed it for a while.
func (l *lease) renewNow(ctx context.Context) error {
	l.renewals.begin(l.d.renewals)
	return l.d.renewals.RenewNow(ctx, l.key, l.id, l.ttl)
}

// renewals are the part of a lease in the stream that all leases share.
type renewals struct {
	n int // used by Renew alone

	mu    sync.Mutex
	leave func() // undoes Join; nil before the first renewal, and after the end
	ended bool
}

// begin has the stream kept open between renewals.
func (r *renewals) begin(s *keepalive.Streams) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.leave == nil && !r.ended {
		s.Join()
		r.leave = s.Leave
	}
}

// end undoes begin. The last lease ends the stream.
func (r *renewals) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	if r.leave != nil {
		r.leave()
		r.leave = nil
	}
}
