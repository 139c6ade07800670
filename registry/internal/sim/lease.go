package sim

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// owner is one registration for the store. All leases of the registration share it.
type owner struct {
	mu         sync.Mutex
	number     int   // of the newest attempt
	earlier    []int // of attempts before the first success, which may have left an entry
	writes     int
	registered bool
}

// nextAttempt returns the stamp of an attempt to register. An attempt before the first success is as new as a new owner: another process may
// have registered the ID since the attempt before.
func (o *owner) nextAttempt(s *store) stamp {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.registered {
		if o.number != 0 {
			o.earlier = append(o.earlier, o.number)
		}
		o.number = s.newOwner()
	}
	o.writes++
	return stamp{o.number, o.writes}
}

func (o *owner) nextWrite() stamp {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writes++
	return stamp{o.number, o.writes}
}

func (o *owner) isRegistered() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.registered = true
}

func (o *owner) newest() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.number
}

// all returns the numbers of everything that the owner may have written.
func (o *owner) all() []int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append(slices.Clone(o.earlier), o.number)
}

// lease implements [registry.Lease].
type lease struct {
	d        *driver
	key      entryKey
	owner    *owner
	once     sync.Once
	released chan struct{}
}

// TTL implements [registry.Lease].
func (l *lease) TTL() time.Duration { return l.d.world.TTL }

// Renew implements [registry.Lease].
func (l *lease) Renew(ctx context.Context) error {
	return l.d.write(ctx, "renew", l.key.String(), func(bool) error { return l.d.store.renew(l.key, l.owner.newest()) }).err
}

// state returns nil if the entry is the lease's, and why it is not otherwise. The channel is closed with the next change.
func (l *lease) state() (changed <-chan struct{}, err error) {
	s := l.d.store
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed, s.check(l.key, l.owner.newest())
}

// Wait implements [registry.Lease].
func (l *lease) Wait(ctx context.Context) error {
	for {
		fault, faultChanged := l.d.faults.now(l.d.process)
		storeChanged, err := l.state()
		switch fault.Op {
		case Refuse, Restart, RestartOld, Wipe:
			if l.d.world.NoticesCuts {
				return errRefused
			}
			storeChanged = nil
		case Hang:
			storeChanged = nil // what the store says does not arrive
		default:
			select {
			case <-l.released:
				return nil
			default:
			}
			if err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-l.d.crashed:
			return errCrashed
		case <-l.released:
			return nil
		case <-faultChanged:
		case <-storeChanged:
		}
	}
}

// CheckReplaced implements [registry.Lease].
func (l *lease) CheckReplaced(ctx context.Context) error {
	var replaced error
	o := l.d.write(ctx, "check", l.key.String(), func(bool) error {
		if _, err := l.state(); errors.Is(err, registry.ErrReplaced) {
			replaced = err
		}
		return nil
	})
	if o.err != nil {
		return o.err
	}
	return replaced
}

// Update implements [registry.Lease].
func (l *lease) Update(ctx context.Context, in *registry.Instance) error {
	at := l.owner.nextWrite()
	return l.d.write(ctx, "update", l.key.String()+" "+in.Version, func(bool) error { return l.d.store.replace(in, at) }).err
}

// Release implements [registry.Lease].
func (l *lease) Release(ctx context.Context) error {
	owners := l.owner.all()
	o := l.d.write(ctx, "release", l.key.String(), func(bool) error { return l.d.store.release(l.key, owners) })
	if o.err == nil {
		l.once.Do(func() { close(l.released) })
	}
	return o.err
}
