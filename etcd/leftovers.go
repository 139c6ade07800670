package etcd

import (
	"context"
	"slices"
	"sync"
	"time"
)

// leftover is a lease of etcd that was granted for an announcement which is not held any more, and may still hold its
// entry: because it failed without a clear answer, or because holding it failed. It is not renewed.
type leftover struct {
	lease *lease
	since time.Time
	held  bool // it was held until that failed, and not merely tried
}

// leftovers are those of each key. The next announcement of the key goes on with one or removes it, and Release removes
// those that were tried since: neither may leave an entry that looks alive for a TTL.
type leftovers struct {
	mu    sync.Mutex
	byKey map[string][]leftover
	swept time.Time // when the expired ones were last forgotten
}

// add keeps o, and now and then forgets those that have long expired, of keys that nobody announces any more.
func (l *leftovers) add(key string, o ...leftover) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byKey == nil {
		l.byKey = map[string][]leftover{}
	}
	if len(o) > 0 {
		l.byKey[key] = append(l.byKey[key], o...)
	}
	if time.Since(l.swept) < time.Minute {
		return
	}
	l.swept = time.Now()
	for key, all := range l.byKey {
		// A new leader gives every lease its whole TTL again, hence not after one.
		all = slices.DeleteFunc(all, func(o leftover) bool { return time.Since(o.since) > 20*o.lease.ttl })
		if l.byKey[key] = all; len(all) == 0 {
			delete(l.byKey, key)
		}
	}
}

// take returns those of key, which are the caller's from then on.
func (l *leftovers) take(key string) []leftover {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.byKey[key]
	delete(l.byKey, key)
	return all
}

// has reports whether a lease is among those of key.
func (l *leftovers) has(key string, id int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.byKey[key], func(o leftover) bool { return o.lease.id == id })
}

// takeTried is take for those alone that were never held, and forgets the lease given. Another one that was held may be that
// of another registration of the same ID, which is about to go on with it.
func (l *leftovers) takeTried(key string, forget int64) (tried []leftover) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var held []leftover
	for _, o := range l.byKey[key] {
		switch {
		case o.lease.id == forget:
		case o.held:
			held = append(held, o)
		default:
			tried = append(tried, o)
		}
	}
	if len(held) > 0 {
		l.byKey[key] = held
	} else {
		delete(l.byKey, key)
	}
	return tried
}

// removeLeftovers revokes the leases given, and keeps what it could not revoke.
func (d *driver) removeLeftovers(ctx context.Context, key string, all []leftover) error {
	for i, o := range all {
		if err := d.revoke(ctx, key, o.lease.id); err != nil {
			d.left.add(key, all[i:]...)
			return err
		}
	}
	return nil
}
