package registrytest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/rollcall-go/rollcall/registry"
)

// faulty is a driver, some of whose steps are done wrongly. A step that is nil is done rightly.
type faulty struct {
	registry.Driver
	nextValue     func(ctx context.Context, right nextValueFunc) (*registry.Value, error)
	putValue      func(ctx context.Context, key string, data []byte, o registry.PutOptions, right putValueFunc) (*registry.Value, error)
	unanswered    *atomic.Bool // the answers to writes of content are lost
	register      func(ctx context.Context, in *registry.Instance, prev registry.Lease, right registerFunc) (registry.Lease, error)
	watch         func(q registry.Query) registry.Query
	services      func(ctx context.Context, right servicesFunc) ([]string, error)
	renew         func(ctx context.Context, l *faultyLease) error
	wait          func(ctx context.Context, l *faultyLease) error
	checkReplaced func(ctx context.Context, l *faultyLease) error
	update        func(ctx context.Context, in *registry.Instance, l *faultyLease) error
	release       func(ctx context.Context, l *faultyLease) error
	next          func(ctx context.Context, s *faultySource) (registry.Set, error)
}

type (
	registerFunc func(ctx context.Context, in *registry.Instance, prev registry.Lease) (registry.Lease, error)
	servicesFunc func(context.Context) ([]string, error)
)

// answer returns an error if the answer to a write is lost.
func (d *faulty) answer() error {
	if d.unanswered.Load() {
		return fmt.Errorf("%w: the answer is lost", registry.ErrUnavailable)
	}
	return nil
}

// rightRegister is a Register that is done rightly.
func (d *faulty) rightRegister(ctx context.Context, in *registry.Instance, prev registry.Lease) (registry.Lease, error) {
	l, err := d.Driver.Register(ctx, in, prev)
	if err != nil {
		return l, err
	}
	return l, d.answer()
}

// faultyLease is a lease of a faulty driver; its own methods are done rightly.
type faultyLease struct {
	registry.Lease
	d  *faulty
	in *registry.Instance // as registered

	unsure bool // for a step to remember
}

func (l *faultyLease) Update(ctx context.Context, in *registry.Instance) error {
	if err := l.Lease.Update(ctx, in); err != nil {
		return err
	}
	return l.d.answer()
}

// revive writes the entry again, whether it is lost or of another registration, and goes on with it.
func (l *faultyLease) revive(ctx context.Context, in *registry.Instance) error {
	other, err := l.d.Driver.Register(ctx, in, l.Lease)
	if err == nil {
		l.Lease = other
	}
	return err
}

// faultySource is a source of a faulty driver; its own Next is done rightly.
type faultySource struct {
	registry.Source
	d     *faulty
	query registry.Query
	calls int
	last  []*registry.Instance // for a step to remember

	unreadable []registry.Unreadable // likewise
}

func (s *faultySource) Next(ctx context.Context) (registry.Set, error) {
	set, err := s.Source.Next(ctx)
	return withoutUnreadable(set), err
}

// noInstance is the version of an entry that a faulty driver cannot read: the store has nothing but instances.
const noInstance = "no instance"

// withoutUnreadable moves the entries that cannot be read from Instances to Unreadable.
func withoutUnreadable(set registry.Set) registry.Set {
	isUnreadable := func(in *registry.Instance) bool { return in.Version == noInstance }
	if !slices.ContainsFunc(set.Instances, isUnreadable) {
		return set
	}
	for _, in := range set.Instances {
		if isUnreadable(in) {
			set.Unreadable = append(set.Unreadable, registry.Unreadable{Entry: in.ID, Err: errors.New(noInstance)})
		}
	}
	set.Instances = slices.DeleteFunc(slices.Clone(set.Instances), isUnreadable)
	return set
}

func (d *faulty) Register(ctx context.Context, in *registry.Instance, prev registry.Lease) (registry.Lease, error) {
	if p, ok := prev.(wrongLease); ok {
		prev = p.Lease
	}
	var l registry.Lease
	var err error
	if d.register != nil {
		l, err = d.register(ctx, in, prev, d.rightRegister)
	} else {
		l, err = d.rightRegister(ctx, in, prev)
	}
	if l == nil {
		return nil, err
	}
	return wrongLease{&faultyLease{Lease: l, d: d, in: in}}, err
}

func (d *faulty) Watch(q registry.Query) registry.Source {
	if d.watch != nil {
		q = d.watch(q)
	}
	return wrongSource{&faultySource{Source: d.Driver.Watch(q), d: d, query: q}}
}

// WatchValue implements [registry.Driver].
func (d *faulty) WatchValue(key string) registry.ValueSource {
	src := d.Driver.WatchValue(key)
	if d.nextValue == nil {
		return src
	}
	return faultyValueSource{src, d.nextValue}
}

type faultyValueSource struct {
	registry.ValueSource
	next func(ctx context.Context, right nextValueFunc) (*registry.Value, error)
}

type nextValueFunc func(context.Context) (*registry.Value, error)

// Next implements [registry.ValueSource].
func (s faultyValueSource) Next(ctx context.Context) (*registry.Value, error) {
	return s.next(ctx, s.ValueSource.Next)
}

// Properties implements [registry.Driver].
func (d *faulty) Properties() registry.Properties {
	p := d.Driver.Properties()
	if put := p.PutValue; d.putValue != nil {
		p.PutValue = func(ctx context.Context, key string, data []byte, o registry.PutOptions) (*registry.Value, error) {
			return d.putValue(ctx, key, data, o, put)
		}
	}
	return p
}

type putValueFunc func(ctx context.Context, key string, data []byte, o registry.PutOptions) (*registry.Value, error)

func (d *faulty) Services(ctx context.Context) ([]string, error) {
	if d.services != nil {
		return d.services(ctx, d.Driver.Services)
	}
	return d.Driver.Services(ctx)
}

type wrongLease struct{ *faultyLease }

func (l wrongLease) Renew(ctx context.Context) error {
	if l.d.renew != nil {
		return l.d.renew(ctx, l.faultyLease)
	}
	return l.Lease.Renew(ctx)
}

func (l wrongLease) Wait(ctx context.Context) error {
	if l.d.wait != nil {
		return l.d.wait(ctx, l.faultyLease)
	}
	return l.Lease.Wait(ctx)
}

func (l wrongLease) CheckReplaced(ctx context.Context) error {
	if l.d.checkReplaced != nil {
		return l.d.checkReplaced(ctx, l.faultyLease)
	}
	return l.Lease.CheckReplaced(ctx)
}

func (l wrongLease) Update(ctx context.Context, in *registry.Instance) error {
	if l.d.update != nil {
		return l.d.update(ctx, in, l.faultyLease)
	}
	return l.faultyLease.Update(ctx, in)
}

func (l wrongLease) Release(ctx context.Context) error {
	if l.d.release != nil {
		return l.d.release(ctx, l.faultyLease)
	}
	return l.Lease.Release(ctx)
}

type wrongSource struct{ *faultySource }

func (s wrongSource) Next(ctx context.Context) (registry.Set, error) {
	s.calls++
	if s.d.next != nil {
		return s.d.next(ctx, s.faultySource)
	}
	return s.faultySource.Next(ctx)
}

// edited makes a driver that writes something else than it is given.
func edited(edit func(in *registry.Instance)) *faulty {
	other := func(in *registry.Instance) *registry.Instance {
		in = in.Clone()
		edit(in)
		return in
	}
	return &faulty{
		register: func(ctx context.Context, in *registry.Instance, prev registry.Lease, right registerFunc) (registry.Lease, error) {
			return right(ctx, other(in), prev)
		},
		update: func(ctx context.Context, in *registry.Instance, l *faultyLease) error {
			return l.Update(ctx, other(in))
		},
	}
}
