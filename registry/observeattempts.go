package registry

import (
	"context"
	"time"
)

// attempts is a decorator of a [Driver] that emits an [Attempted] event for each call.
type attempts struct {
	Driver
	r *Registry
}

// attempted emits the event of a call that began at start.
func (a attempts) attempted(op, service, id string, start time.Time, err error) {
	if a.r.observers.any.Load() {
		a.r.emit(pendingEvent{Event: Event{Kind: Attempted, Op: op, Service: service, ID: id, Took: time.Since(start), Err: err}})
	}
}

// Register implements [Driver].
func (a attempts) Register(ctx context.Context, in *Instance, prev Lease) (Lease, error) {
	if p, ok := prev.(*attemptsLease); ok {
		prev = p.Lease
	}
	start := time.Now()
	lease, err := a.Driver.Register(ctx, in, prev)
	a.attempted("register", in.Service, in.ID, start, err)
	if lease != nil {
		lease = &attemptsLease{lease, a, in.Service, in.ID}
	}
	return lease, err
}

// Services implements [Driver].
func (a attempts) Services(ctx context.Context) ([]string, error) {
	start := time.Now()
	names, err := a.Driver.Services(ctx)
	a.attempted("services", "", "", start, err)
	return names, err
}

// Watch implements [Driver].
func (a attempts) Watch(q Query) Source {
	return &attemptsSource{Source: a.Driver.Watch(q), a: a, service: q.Service}
}

// WatchValue implements [Driver].
func (a attempts) WatchValue(key string) ValueSource {
	return &attemptsValueSource{ValueSource: a.Driver.WatchValue(key), r: a.r}
}

type attemptsLease struct {
	Lease
	a           attempts
	service, id string
}

// Renew implements [Lease].
func (l *attemptsLease) Renew(ctx context.Context) error {
	start := time.Now()
	err := l.Lease.Renew(ctx)
	l.a.attempted("renew", l.service, l.id, start, err)
	return err
}

// Update implements [Lease].
func (l *attemptsLease) Update(ctx context.Context, in *Instance) error {
	start := time.Now()
	err := l.Lease.Update(ctx, in)
	l.a.attempted("update", l.service, l.id, start, err)
	return err
}

// Release implements [Lease].
func (l *attemptsLease) Release(ctx context.Context) error {
	start := time.Now()
	err := l.Lease.Release(ctx)
	l.a.attempted("deregister", l.service, l.id, start, err)
	return err
}

type attemptsSource struct {
	Source
	a       attempts
	service string
	again   bool // Next has returned a set, so the next call waits for a change
}

// Next implements [Source].
func (s *attemptsSource) Next(ctx context.Context) (Set, error) {
	start := time.Now()
	set, err := s.Source.Next(ctx)
	if (err != nil || !s.again) && ctx.Err() == nil {
		s.a.attempted("read", s.service, "", start, err)
	}
	s.again = err == nil
	return set, err
}

type attemptsValueSource struct {
	ValueSource
	r     *Registry
	again bool // Next has returned a value, so the next call waits for a change
}

// Next implements [ValueSource].
func (s *attemptsValueSource) Next(ctx context.Context) (*Value, error) {
	start := time.Now()
	v, err := s.ValueSource.Next(ctx)
	if (err != nil || !s.again) && ctx.Err() == nil {
		s.r.attempted("read_value", start, err)
	}
	s.again = err == nil
	return v, err
}
