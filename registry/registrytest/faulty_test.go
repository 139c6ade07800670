package registrytest_test

import (
	"context"

	"github.com/rollcall-go/rollcall/registry"
)

// faulty is a driver, some of whose steps are done wrongly. A step that is nil is done rightly.
type faulty struct {
	registry.Driver
	announce func(ctx context.Context, in *registry.Instance, right announceFunc) (registry.Lease, error)
	update   func(ctx context.Context, in *registry.Instance, l *faultyLease) error
	keep     func(ctx context.Context, l *faultyLease) error
	release  func(ctx context.Context, l *faultyLease) error
	next     func(ctx context.Context, s *faultySource) ([]*registry.Instance, error)
	services func(ctx context.Context, right servicesFunc) ([]string, error)
	follow   func(q registry.Query) registry.Query
}

type (
	announceFunc func(context.Context, *registry.Instance) (registry.Lease, error)
	servicesFunc func(context.Context) ([]string, error)
)

// faultyLease is a lease of a faulty driver; its own methods are done rightly.
type faultyLease struct {
	registry.Lease
	d  *faulty
	in *registry.Instance // as announced
}

// faultySource is a source of a faulty driver; its own Next is done rightly.
type faultySource struct {
	registry.Source
	d     *faulty
	query registry.Query
	calls int
	last  []*registry.Instance // for a step to remember
}

func (d *faulty) Announce(ctx context.Context, in *registry.Instance) (registry.Lease, error) {
	var l registry.Lease
	var err error
	if d.announce != nil {
		l, err = d.announce(ctx, in, d.Driver.Announce)
	} else {
		l, err = d.Driver.Announce(ctx, in)
	}
	if err != nil {
		return nil, err
	}
	return wrongLease{&faultyLease{l, d, in}}, nil
}

func (d *faulty) Follow(q registry.Query) registry.Source {
	if d.follow != nil {
		q = d.follow(q)
	}
	return wrongSource{&faultySource{Source: d.Driver.Follow(q), d: d, query: q}}
}

func (d *faulty) Services(ctx context.Context) ([]string, error) {
	if d.services != nil {
		return d.services(ctx, d.Driver.Services)
	}
	return d.Driver.Services(ctx)
}

type wrongLease struct{ *faultyLease }

func (l wrongLease) Update(ctx context.Context, in *registry.Instance) error {
	if l.d.update != nil {
		return l.d.update(ctx, in, l.faultyLease)
	}
	return l.Lease.Update(ctx, in)
}

func (l wrongLease) Keep(ctx context.Context) error {
	if l.d.keep != nil {
		return l.d.keep(ctx, l.faultyLease)
	}
	return l.Lease.Keep(ctx)
}

func (l wrongLease) Release(ctx context.Context) error {
	if l.d.release != nil {
		return l.d.release(ctx, l.faultyLease)
	}
	return l.Lease.Release(ctx)
}

type wrongSource struct{ *faultySource }

func (s wrongSource) Next(ctx context.Context) ([]*registry.Instance, error) {
	s.calls++
	if s.d.next != nil {
		return s.d.next(ctx, s.faultySource)
	}
	return s.Source.Next(ctx)
}

// edited makes a driver that writes something else than it is given.
func edited(edit func(in *registry.Instance)) *faulty {
	other := func(in *registry.Instance) *registry.Instance {
		in = in.Clone()
		edit(in)
		return in
	}
	return &faulty{
		announce: func(ctx context.Context, in *registry.Instance, right announceFunc) (registry.Lease, error) {
			return right(ctx, other(in))
		},
		update: func(ctx context.Context, in *registry.Instance, l *faultyLease) error {
			return l.Update(ctx, other(in))
		},
	}
}
