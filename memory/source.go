package memory

import (
	"cmp"
	"context"
	"fmt"

	"github.com/rollcall-go/rollcall/registry"
)

// nothing is the revision that a source has seen before its first set.
const nothing = -1

// source follows one service. It returns all instances of it: the portable layer selects.
type source struct {
	client  *client
	service *service
	seen    int // the revision of the set that Next returned last
	drops   int // the count of DropWatches that this source has taken note of

	reported int // the revision up to which departures were reported; nothing before the first set
}

// Next implements [registry.Source].
func (s *source) Next(ctx context.Context) (registry.Set, error) {
	var set registry.Set
	var dropped error
	s.client.count()
	err := s.client.waitAlive(ctx, func() <-chan struct{} {
		if s.drops != s.client.drops {
			s.drops = s.client.drops
			dropped = fmt.Errorf("%w: the watch was dropped", registry.ErrUnavailable)
			return nil
		}
		var changed <-chan struct{}
		set.Instances, s.seen, changed = s.client.store.since(s.service, s.seen)
		if changed == nil {
			set.Departed = s.client.store.departedSince(s.service, s.reported)
			s.reported = s.seen
		}
		return changed
	})
	if err = cmp.Or(err, dropped); err != nil {
		s.seen = nothing
		return registry.Set{Outdated: s.outdated(nothing)}, err
	}
	set.Outdated = s.outdated(s.seen)
	return set, nil
}

// outdated returns a function that reports whether a read would find more than the set of that revision: another set, or a failure. A
// client that hangs cannot know.
func (s *source) outdated(revision int) func() bool {
	c, service := s.client, s.service
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		switch {
		case c.hanging:
			return false
		case c.failure != nil:
			return true
		}
		return c.store.revision(service) != revision
	}
}

// Close implements [registry.Source].
func (s *source) Close() error {
	s.client.store.close(s.service)
	return nil
}
