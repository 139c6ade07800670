package etcd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/rollcall-go/rollcall/etcd/internal/conn"
	"github.com/rollcall-go/rollcall/registry"
)

// lease keeps one entry registered by one lease of etcd, which has no other entry. So an entry on another lease, or on none, belongs to another
// registration.
type lease struct {
	d   *driver
	key string

	// Only Register changes these.
	id           int64
	ttl          time.Duration // as granted
	revision     int64         // at which the store had the entry; the entry watch begins after it
	asked        bool          // etcd was asked to grant the lease
	granted      bool          // etcd has granted the lease
	failedBefore bool          // Register has returned it beside an error: its write may have been carried out, or may be delayed

	// Only Register, Update, Release and CheckReplaced use these, one at a time.
	known   int64              // the condition of the next write: nothing was written after this revision
	own     int64              // the newest revision at which the entry belonged to this registration
	content *registry.Instance // as written last
	orphans []int64            // orphaned leases: etcd leases of predecessors, the oldest first, which may have the entry and are not renewed

	unsure    atomic.Bool // a failed write may be delayed, or permission to renew was denied
	releasing atomic.Bool // Release was called, so the entry may be gone because of that

	released released

	renewals renewals
}

func (d *driver) newLease(key string, id int64, ttl time.Duration) *lease {
	return &lease{d: d, key: key, id: id, ttl: ttl}
}

// released tells Wait that Release has succeeded. A context would take four times the memory.
type released struct {
	mu      sync.Mutex
	is      bool
	endWait func() // nil while Wait does not run
}

// set notes that Release has succeeded, and ends Wait.
func (r *released) set() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.is = true
	if r.endWait != nil {
		r.endWait()
	}
}

// onSet has end called when Release has succeeded, or at once if that is so already. nil undoes it.
func (r *released) onSet(end func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.endWait = end
	if r.is && end != nil {
		end()
	}
}

func (r *released) isSet() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.is
}

// TTL implements [registry.Lease].
func (l *lease) TTL() time.Duration { return l.ttl }

// wrote notes that the store has the entry of l at the revision.
func (l *lease) wrote(revision int64) {
	l.revision, l.known, l.own = revision, revision, revision
}

// Wait implements [registry.Lease]. It watches the entry, so it notices a deletion or another registration at once.
func (l *lease) Wait(ctx context.Context) error {
	defer l.renewals.end()
	watching, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l.released.onSet(func() { cancel(context.Canceled) })
	defer l.released.onSet(nil)
	err := l.watchEntry(watching)
	switch {
	case l.released.isSet(), conn.IsGone(err) && l.releasing.Load():
		return nil
	case errors.Is(err, registry.ErrReplaced): // also if ctx has ended, so that nothing is written over the newer entry
		_ = l.d.revoke(ctx, l.key, l.id) // it has no entry; if this fails, it expires
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	}
	l.noteDenied(err)
	return err
}

// noteDenied makes l unsure if err is a refusal, so that resume does not use it: reads may still be allowed and find the entry unchanged,
// until the next renewal is refused.
func (l *lease) noteDenied(err error) {
	if errors.Is(err, registry.ErrDenied) {
		l.unsure.Store(true)
	}
}

// watchEntry watches the entry until it is lost or replaced.
func (l *lease) watchEntry(ctx context.Context) (err error) {
	what := "watch " + l.key
	w, err := l.d.watches.Watch(ctx, what, l.key, "", l.revision+1)
	if err != nil {
		return err
	}
	defer func() {
		// If ctx ends because a renewal failed, the member of the stream may hang.
		cause := cmp.Or(context.Cause(ctx), err)
		if errors.Is(cause, context.Canceled) || errors.Is(cause, registry.ErrReplaced) || conn.IsGone(cause) {
			w.Close()
		} else {
			w.Abandon()
		}
	}()
	for contradicted := 0; contradicted < maxContradicted; {
		changes, err := w.Next(ctx)
		if err != nil {
			return err
		}
		deleted := false
		for _, e := range changes {
			if e.Type == mvccpb.Event_DELETE {
				deleted = true
			} else if err := l.checkOwner(e.Kv); err != nil {
				return err
			}
		}
		if deleted {
			// Another process may have registered the ID since: its entry must not be written over.
			if err := l.verify(ctx); err != nil {
				return err
			}
			contradicted++
		}
	}
	return l.d.conn.Unavailable(what, "etcd says again and again that the entry was deleted, although it exists")
}

// maxContradicted is how often etcd may say that the entry was deleted although it exists. A deleted entry does not come back under its
// lease, so a healthy etcd never does.
const maxContradicted = 3

// verify reads the entry. It returns an error if there is none, or if it belongs to another registration.
func (l *lease) verify(ctx context.Context) error {
	what := "read " + l.key
	page, err := l.d.conn.Read(ctx, what, &pb.RangeRequest{Key: []byte(l.key)})
	if err != nil {
		return err
	}
	if len(page.Kvs) == 0 {
		return l.d.conn.Gone(what, "the entry does not exist")
	}
	return l.checkOwner(page.Kvs[0])
}

// checkOwner returns an error if the entry belongs to another registration.
func (l *lease) checkOwner(kv *mvccpb.KeyValue) error {
	if kv.Lease == l.id {
		return nil
	}
	return fmt.Errorf("%w: %s has an entry of another registration under %s", registry.ErrReplaced, l.d.conn.Place(), l.key)
}

// CheckReplaced implements [registry.Lease].
func (l *lease) CheckReplaced(ctx context.Context) error {
	l.d.conn.ReconnectNow(ctx)
	page, err := l.d.conn.Read(ctx, "read "+l.key, &pb.RangeRequest{Key: []byte(l.key)})
	if err != nil || len(page.Kvs) == 0 {
		return err
	}
	kv := page.Kvs[0]
	if kv.ModRevision <= l.own || slices.Contains(l.orphans, kv.Lease) { // the store was restored, or the entry belongs to a predecessor
		return nil
	}
	return l.checkOwner(kv)
}

// writeAttempts bounds the attempts of one write that finds each time that the entry was written since. The portable layer then pauses before
// it tries again.
const writeAttempts = 3

// errContended returns the error of a write whose attempts all found that the entry was written since.
func (l *lease) errContended() error {
	return l.d.conn.Unavailable("write "+l.key, fmt.Sprintf("etcd says %d times in a row that the entry was written since", writeAttempts))
}

// Update implements [registry.Lease].
func (l *lease) Update(ctx context.Context, in *registry.Instance) error {
	value, err := l.d.format.Encode(in)
	if err != nil {
		return err
	}
	before := l.unsure.Swap(true)
	l.d.conn.ReconnectNow(ctx)
	for range writeAttempts {
		revision, current, err := l.d.write(ctx, l.key, value, l.id, l.known, onLease(l.key, l.id))
		switch {
		case conn.IsRefused(err):
			l.unsure.Store(before) // nothing was written
			return err
		case err != nil:
			return err
		case revision > 0:
			l.known, l.own, l.content = revision, revision, in
			l.unsure.Store(false)
			return nil
		case current == nil:
			return l.d.conn.Gone("write "+l.key, "the entry does not exist")
		}
		if err := l.checkOwner(current); err != nil {
			return err
		}
		l.known = current.ModRevision // of an earlier write of l, which was delayed
	}
	return l.errContended()
}

// Release implements [registry.Lease]. It writes that the instance leaves on purpose, and then revokes the etcd lease, which removes the entry
// in the same step. It also revokes the orphaned leases. An entry of another registration stays.
func (l *lease) Release(ctx context.Context) error {
	l.d.conn.ReconnectNow(ctx)
	l.releasing.Store(true)
	l.writeLeaving(ctx)
	if err := l.d.revoke(ctx, l.key, l.id); err != nil {
		return err
	}
	if err := l.removeOrphans(ctx); err != nil {
		return err
	}
	l.renewals.end()
	l.released.set()
	return nil
}
