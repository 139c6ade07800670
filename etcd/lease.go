package etcd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/rollcall-go/rollcall/registry"
)

// lease holds one entry by one lease of etcd, which holds nothing else: an entry that hangs on another is another's.
type lease struct {
	d        *driver
	key      string
	id       int64
	ttl      time.Duration // as granted
	revision int64         // of the store when it had the entry
	known    int64         // the newest at which the entry is known to be as written here; used by Announce, Update and CheckReplaced alone
	overdue  bool          // the first renewal cannot wait

	unsure   atomic.Bool // a write seems to have failed, and may still be on its way; or the lease may not be renewed
	fate     atomic.Int32
	released chan struct{}
	once     sync.Once // closes released
}

// The fates of a lease.
const (
	ours      int32 = iota
	releasing       // the entry may be gone because Release took it
	passing         // a later announcement of the same entry finds out whether it can go on with it
	passed          // and does, so that it is not ours to write or to take
)

// pass begins to make l a later announcement's. It reports false where it is being released, cannot be renewed, or a write of it
// may be on its way: what was sent cannot be held back.
func (l *lease) pass() bool {
	if !l.fate.CompareAndSwap(ours, passing) {
		return false
	}
	if l.unsure.Load() {
		l.fate.Store(ours)
		return false
	}
	return true
}

// errPassing is for who comes in between.
func (l *lease) errPassing() error {
	return l.d.unavailable("write "+l.key, "another announcement of it is being made by this process")
}

func (d *driver) newLease(key string, id int64, ttl time.Duration) *lease {
	return &lease{d: d, key: key, id: id, ttl: ttl, released: make(chan struct{})}
}

// leftover is what l leaves, which was held or merely tried.
func (l *lease) leftover(held bool) leftover {
	return leftover{l, time.Now(), held}
}

// Keep implements [registry.Lease]. Renewals keep the lease, and a watch of the entry tells at once when it is gone or
// another's. Both end with Keep: nothing renews a lease that nobody holds.
func (l *lease) Keep(ctx context.Context) error {
	both, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ends := make(chan error, 2)
	var work sync.WaitGroup
	work.Go(func() { ends <- l.renewals(both) })
	work.Go(func() { ends <- l.guard(both) })
	var err error
	select {
	case err = <-ends:
	case <-l.released:
	case <-ctx.Done():
		err = ctx.Err()
	}
	cancel(err)
	work.Wait()
	switch {
	case isGone(err) && l.fate.Load() == releasing, l.isReleased():
		return nil
	case errors.Is(err, registry.ErrReplaced): // also where ctx has ended, so that nobody announces over the other one
		_ = l.d.revoke(ctx, l.key, l.id) // it holds nothing any more; otherwise it expires
		return err
	case ctx.Err() != nil:
		err = ctx.Err()
	case errors.Is(err, registry.ErrDenied):
		l.unsure.Store(true) // to read may be allowed still, and would say that all is well until the lease is to be renewed again
	}
	l.d.left.add(l.key, l.leftover(true))
	return err
}

func (l *lease) isReleased() bool {
	select {
	case <-l.released:
		return true
	default:
		return false
	}
}

// verify reads the entry, and returns an error where it is not this lease's, and the revision of the store.
func (l *lease) verify(ctx context.Context) (int64, error) {
	what := "read " + l.key
	page, err := l.d.page(ctx, what, &pb.RangeRequest{Key: []byte(l.key)})
	if err != nil {
		return 0, err
	}
	if len(page.Kvs) == 0 {
		return 0, l.d.failure(registry.ErrUnavailable, what, "the entry is gone", true)
	}
	return page.Header.Revision, l.mine(page.Kvs[0])
}

// mine returns an error where the entry is another's.
func (l *lease) mine(kv *mvccpb.KeyValue) error {
	if kv.Lease == l.id {
		return nil
	}
	return fmt.Errorf("%w: %s has another under %s", registry.ErrReplaced, l.d.place(), l.key)
}

// CheckReplaced implements [registry.ReplacedChecker].
func (l *lease) CheckReplaced(ctx context.Context) error {
	fate := l.fate.Load()
	if fate == passing {
		return l.errPassing()
	}
	l.d.urge(ctx)
	page, err := l.d.page(ctx, "read "+l.key, &pb.RangeRequest{Key: []byte(l.key)})
	if err != nil || len(page.Kvs) == 0 {
		return err
	}
	kv := page.Kvs[0]
	switch {
	case kv.Lease == l.id && fate == passed:
		return fmt.Errorf("%w: a newer announcement has %s", registry.ErrReplaced, l.key)
	case kv.ModRevision <= l.known, l.d.left.has(l.key, kv.Lease): // of a store that was restored; of an attempt that seemed to fail
		return nil
	}
	return l.mine(kv)
}

// guard watches the entry until it is not this lease's any more.
func (l *lease) guard(ctx context.Context) (err error) {
	what := "watch " + l.key
	w, err := l.d.watchFrom(ctx, what, l.key, "", l.revision+1)
	if err != nil {
		return err
	}
	defer func() {
		// Where it ends because the lease could not be renewed, the member may hang that the stream goes to.
		if cause := cmp.Or(context.Cause(ctx), err); errors.Is(cause, context.Canceled) || errors.Is(cause, registry.ErrReplaced) || isGone(cause) {
			w.close()
		} else {
			w.abandon()
		}
	}()
	for {
		changes, err := w.next(ctx)
		if err != nil {
			return err
		}
		for _, e := range changes {
			if e.Type == mvccpb.Event_DELETE {
				// Somebody may have announced it since: then it is not to be announced over theirs.
				if _, err := l.verify(ctx); err != nil {
					return err
				}
				continue
			}
			if err := l.mine(e.Kv); err != nil {
				return err
			}
		}
	}
}

// Update implements [registry.Lease].
func (l *lease) Update(ctx context.Context, in *registry.Instance) error {
	value, err := l.d.format.encode(in)
	if err != nil {
		return err
	}
	l.unsure.Store(true) // before fate is looked at: pass looks at them in the other order
	switch l.fate.Load() {
	case passing:
		return l.errPassing()
	case passed:
		return fmt.Errorf("%w: a newer announcement has %s", registry.ErrReplaced, l.key)
	}
	l.d.urge(ctx)
	for {
		revision, current, err := l.d.write(ctx, l.key, value, l.id, l.known, heldBy(l.key, l.id))
		switch {
		case err != nil:
			return err
		case revision > 0:
			l.known = revision
			l.unsure.Store(false)
			return nil
		case current == nil:
			return l.d.failure(registry.ErrUnavailable, "write "+l.key, "the entry is gone", true)
		}
		if err := l.mine(current); err != nil {
			return err
		}
		l.known = current.ModRevision // an earlier write of ours was late
	}
}

// Release implements [registry.Lease]. The entry goes with its lease where it hangs on it, and only then, in one step;
// and what a failed attempt to announce it may have written comes to nothing.
func (l *lease) Release(ctx context.Context) error {
	l.d.urge(ctx)
	l.fate.CompareAndSwap(ours, releasing)
	switch l.fate.Load() {
	case passing:
		return l.errPassing()
	case releasing:
		if err := l.d.revoke(ctx, l.key, l.id); err != nil {
			return err
		}
	}
	l.once.Do(func() { close(l.released) })
	return l.d.removeLeftovers(ctx, l.key, l.d.left.takeTried(l.key, l.id))
}
