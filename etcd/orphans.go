package etcd

import (
	"context"
	"slices"
)

// An orphaned lease is an etcd lease of a predecessor. It may have the entry, and is not renewed. successor, in register.go, finds it.

// maxOrphans bounds the orphaned leases of a registration.
const maxOrphans = 4

// removeOrphans revokes the orphaned leases.
func (l *lease) removeOrphans(ctx context.Context) error {
	for len(l.orphans) > 0 {
		if err := l.d.revoke(ctx, l.key, l.orphans[0]); err != nil {
			return err
		}
		l.orphans = slices.Clone(l.orphans[1:])
	}
	return nil
}

// renewOrphan renews an orphaned lease. If that fails, the lease expires.
func (l *lease) renewOrphan(ctx context.Context, id int64) {
	_ = l.d.renewals.RenewNow(ctx, l.key, id, l.d.settings.TTL)
}
