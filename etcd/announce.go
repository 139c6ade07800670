package etcd

import (
	"context"
	"errors"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/rollcall-go/rollcall/registry"
)

// Announce implements [registry.Driver]. Each announcement has a lease of its own, so that nothing that happens to one
// concerns another, and the lease tells whose an entry is.
func (d *driver) Announce(ctx context.Context, in *registry.Instance) (registry.Lease, error) {
	value, err := d.format.encode(in)
	if err != nil {
		return nil, err
	}
	d.urge(ctx)
	key := d.keyOf(in.Service, in.ID)
	left := d.left.take(key)
	l, err := d.resume(ctx, key, value, left)
	if err != nil {
		d.left.add(key, left...)
		return nil, err
	}
	if l != nil {
		// Those before it may have been granted by an attempt that seemed to fail.
		_ = d.removeLeftovers(ctx, key, without(left, l.id))
		return l, nil
	}
	if l, err = d.grant(ctx, key); err != nil {
		d.left.add(key, left...)
		return nil, err
	}
	if err = l.put(ctx, value); err != nil {
		if errors.Is(err, registry.ErrInvalid) || errors.Is(err, registry.ErrDenied) {
			_ = d.revoke(ctx, key, l.id) // there will be no next attempt; otherwise it expires
		} else {
			left = append(left, l.leftover(false))
		}
		d.left.add(key, left...)
		return nil, err
	}
	// Now that the entry hangs on another lease, this removes no entry. What fails expires.
	_ = d.removeLeftovers(ctx, key, left)
	return l, nil
}

// resume goes on with a lease that still holds exactly this entry, as it does after a broken connection. It writes
// nothing, so that a member that dies does not make half a fleet announce itself at once. It returns nil where there is
// none.
func (d *driver) resume(ctx context.Context, key string, value []byte, left []leftover) (*lease, error) {
	if len(left) == 0 {
		return nil, nil
	}
	newest := left[len(left)-1].lease
	if !newest.pass() {
		return nil, nil
	}
	var answer *pb.TxnResponse
	err := d.call(ctx, "read "+key, func(ctx context.Context) (err error) {
		answer, err = d.kv.Txn(ctx, &pb.TxnRequest{
			Compare: []*pb.Compare{
				heldBy(key, newest.id),
				{Key: []byte(key), Target: pb.Compare_VALUE, Result: pb.Compare_EQUAL, TargetUnion: &pb.Compare_Value{Value: value}},
			},
			// Without an operation that is linearizable, a member answers by what it knows, cut off as it may be.
			Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{
				RequestRange: &pb.RangeRequest{Key: []byte(key), CountOnly: true},
			}}},
		})
		return err
	})
	if err != nil || !answer.Succeeded {
		newest.fate.Store(ours)
		return nil, err
	}
	newest.fate.Store(passed)
	l := d.newLease(key, newest.id, newest.ttl)
	l.revision, l.known, l.overdue = answer.Header.Revision, answer.Header.Revision, true
	return l, nil
}

func without(all []leftover, id int64) (rest []leftover) {
	for _, o := range all {
		if o.lease.id != id {
			rest = append(rest, o)
		}
	}
	return rest
}

// grant gets a lease.
func (d *driver) grant(ctx context.Context, key string) (*lease, error) {
	var answer *pb.LeaseGrantResponse
	err := d.call(ctx, "grant a lease for "+key, func(ctx context.Context) (err error) {
		answer, err = d.leases.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: int64(d.settings.TTL / time.Second)})
		return err
	})
	if err != nil {
		return nil, err
	}
	l := d.newLease(key, answer.ID, time.Duration(answer.TTL)*time.Second)
	l.known = answer.Header.Revision
	return l, nil
}

// put writes the entry, whoever had it before.
func (l *lease) put(ctx context.Context, value []byte) error {
	for {
		revision, current, err := l.d.write(ctx, l.key, value, l.id, l.known)
		switch {
		case err != nil:
			return err
		case revision > 0:
			l.revision, l.known = revision, revision
			return nil
		case current == nil:
			return l.d.unavailable("write "+l.key, "etcd says that the entry was written since, and that there is none")
		}
		l.known = current.ModRevision // somebody was quicker by a moment: that is replaced as any other
	}
}

// revoke ends a lease, and with it the entry where that hangs on it, in one step. It is no error where there is none.
func (d *driver) revoke(ctx context.Context, key string, id int64) error {
	err := d.call(ctx, "revoke the lease of "+key, func(ctx context.Context) error {
		_, err := d.leases.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: id})
		return err
	})
	if isGone(err) {
		return nil
	}
	return err
}
