package etcd

import (
	"context"
	"slices"
	"time"

	"github.com/rollcall-go/rollcall/etcd/internal/format"
	"github.com/rollcall-go/rollcall/registry"
)

// A deletion looks the same whether the owner deregistered, the lease expired, or an operator removed the key. So an owner that
// leaves writes the status Maintenance first and then removes the entry, in two revisions: a watch gets both, in order, even if
// they are read in one go.

// leavingTimeout bounds the first of the two. The second is made even if the first fails.
const leavingTimeout = time.Second

// writeLeaving attempts to write that the instance leaves, if the entry belongs to l or a predecessor.
func (l *lease) writeLeaving(ctx context.Context) {
	if l.content == nil || l.content.Status == registry.Maintenance {
		return
	}
	leaving := *l.content
	leaving.Status = registry.Maintenance
	value, err := format.EncodeLeaving(l.d.format, &leaving)
	if err != nil {
		return // the format cannot express it
	}
	limit := leavingTimeout
	if end, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(end)/3)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	owner, known := l.id, l.known
	for range writeAttempts {
		revision, current, err := l.d.write(ctx, l.key, value, owner, known, onLease(l.key, owner))
		switch {
		case revision > 0:
			l.content = &leaving
			if owner == l.id {
				l.known, l.own = revision, revision
			}
			return
		case err != nil || current == nil || current.Lease != l.id && !slices.Contains(l.orphans, current.Lease):
			return
		}
		owner, known = current.Lease, current.ModRevision // of a delayed write of l, or of a predecessor
	}
}
