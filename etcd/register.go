package etcd

import (
	"bytes"
	"context"
	"math/rand/v2"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/rollcall-go/rollcall/etcd/internal/conn"
	"github.com/rollcall-go/rollcall/registry"
)

// Register implements [registry.Driver]. Each registration has a lease of its own in etcd: nothing that happens to one registration concerns
// another, and the lease of an entry shows to which registration it belongs.
func (d *driver) Register(ctx context.Context, in *registry.Instance, prev registry.Lease) (registry.Lease, error) {
	value, err := d.format.Encode(in)
	if err != nil {
		return nil, err
	}
	d.conn.ReconnectNow(ctx)
	p, _ := prev.(*lease)
	l, err := p.resume(ctx, value)
	if err != nil {
		return nil, err
	}
	if l == nil {
		l = d.successor(d.keyOf(in.Service, in.ID), p)
		if err := l.establish(ctx, value); err != nil {
			l.content = in // for Release: the write may have been carried out
			return l.afterFailure(ctx, err), err
		}
	}
	l.content = in
	// The entry hangs on l now, so this removes no entry. What fails is left to Release, or expires.
	_ = l.removeOrphans(ctx)
	return l, nil
}

// resume returns a lease that goes on with the etcd lease of l, if the entry still hangs on that and has this value, such as after a broken
// connection. It writes nothing: otherwise half a fleet would write its entries when a member dies. It returns nil if there is no such
// entry, or if a write of l may be delayed, which could change the entry later.
func (l *lease) resume(ctx context.Context, value []byte) (*lease, error) {
	if l == nil || l.failedBefore || l.releasing.Load() || l.unsure.Load() {
		return nil, nil
	}
	// A plain read: etcd 3.4 refuses every transaction while it has no space, even if the transaction only reads.
	page, err := l.d.conn.Read(ctx, "read "+l.key, &pb.RangeRequest{Key: []byte(l.key)})
	if err != nil || len(page.Kvs) == 0 || page.Kvs[0].Lease != l.id || !bytes.Equal(page.Kvs[0].Value, value) {
		return nil, err
	}
	next := l.d.newLease(l.key, l.id, l.ttl)
	next.granted, next.orphans = true, l.orphans
	next.wrote(page.Header.Revision)
	if err := next.renewNow(ctx); err != nil {
		next.renewals.end()
		if conn.IsGone(err) { // it has expired since
			return nil, nil
		}
		return nil, err
	}
	return next, nil
}

// successor returns a lease to write the entry with. If Register has returned prev beside an error, it goes on with the etcd lease of prev,
// so that attempts that fail half-way leave one etcd lease and not one each. Otherwise it has a new etcd lease, and the etcd lease of
// prev is an orphan.
func (d *driver) successor(key string, prev *lease) *lease {
	l := d.newLease(key, newLeaseID(), d.settings.TTL)
	switch {
	case prev == nil:
		return l
	case prev.failedBefore && !prev.releasing.Load():
		l.id, l.ttl, l.granted, l.asked, l.known, l.orphans = prev.id, prev.ttl, prev.granted, prev.asked, prev.known, prev.orphans
	default:
		l.orphans = append(l.orphans, prev.orphans...)
		l.orphans = append(l.orphans, prev.id)
		l.orphans = l.orphans[max(0, len(l.orphans)-maxOrphans):] // the oldest ones expire
	}
	l.own = prev.own
	return l
}

// newLeaseID returns an ID that no lease has. The driver chooses it, and not etcd, so that a grant whose answer was lost can be made
// again.
func newLeaseID() int64 { return rand.Int64N(1<<62) + 1 }

// afterFailure returns the lease for Register to return beside err, the failure of an attempt. It is nil if there is nothing to release.
func (l *lease) afterFailure(ctx context.Context, err error) registry.Lease {
	l.renewals.end()
	if n := len(l.orphans); conn.IsRefused(err) && n > 0 {
		// The store takes no writes for now, but renewals: keep what was written before registered meanwhile.
		l.renewOrphan(ctx, l.orphans[n-1])
	}
	if !l.asked || conn.IsMalformed(err) && !l.granted {
		return nil // etcd was not asked for l, or what it granted is not to be relied on
	}
	l.failedBefore = true
	return l
}

// establish has etcd grant l, unless an earlier attempt has, and writes the entry.
func (l *lease) establish(ctx context.Context, value []byte) error {
	if err := l.ensureGranted(ctx); err != nil {
		return err
	}
	return l.put(ctx, value)
}

// ensureGranted has etcd grant l. If an earlier attempt has, some of its TTL has passed since, so it is renewed.
func (l *lease) ensureGranted(ctx context.Context) error {
	if l.granted {
		err := l.renewNow(ctx)
		if !conn.IsGone(err) {
			return err
		}
		l.granted = false // it has expired since
	}
	exists, err := l.grant(ctx)
	if exists {
		return l.renewNow(ctx)
	}
	return err
}

// grant asks etcd for l. It reports whether etcd has l already, because an earlier attempt asked for it and the answer was lost.
func (l *lease) grant(ctx context.Context) (exists bool, err error) {
	again := l.asked
	var answer *pb.LeaseGrantResponse
	err = l.d.conn.Call(ctx, "grant a lease for "+l.key, func(ctx context.Context) (err error) {
		answer, err = l.d.conn.Leases.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: l.id, TTL: int64(l.d.settings.TTL / time.Second)})
		l.asked = l.asked || !conn.IsUnsent(err)
		exists = conn.Says(err, rpctypes.ErrGRPCLeaseExist)
		if exists && again {
			return nil
		}
		return err
	})
	switch {
	case exists && again:
		l.granted, l.known = true, 0
		return true, nil
	case exists: // another client has chosen the same ID, which does not happen
		l.id = newLeaseID()
		return false, err
	case err != nil:
		return false, err
	}
	l.granted, l.id = true, answer.ID
	l.ttl = time.Duration(answer.TTL) * time.Second
	l.known = answer.Header.Revision
	return false, nil
}

// put writes the entry, also over an entry of another registration.
func (l *lease) put(ctx context.Context, value []byte) error {
	for range writeAttempts {
		revision, current, err := l.d.write(ctx, l.key, value, l.id, l.known)
		switch {
		case err != nil:
			return err
		case revision > 0:
			l.wrote(revision)
			return nil
		case current == nil:
			return l.d.conn.Unavailable("write "+l.key, "etcd says that the entry was written since, but has none")
		}
		l.known = current.ModRevision // another entry was written just before, and is replaced like any other
	}
	return l.errContended()
}
