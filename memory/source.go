package memory

import (
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
}

// Next implements [registry.Source].
func (s *source) Next(ctx context.Context) ([]*registry.Instance, error) {
	var set []*registry.Instance
	var dropped error
	err := s.client.call(ctx, func() <-chan struct{} {
		if s.drops != s.client.drops {
			s.drops = s.client.drops
			dropped = fmt.Errorf("%w: the watch was dropped", registry.ErrUnavailable)
			return nil
		}
		var changed <-chan struct{}
		set, s.seen, changed = s.client.store.since(s.service, s.seen)
		return changed
	})
	if err == nil {
		err = dropped
	}
	if err != nil {
		s.seen = nothing
		return nil, err
	}
	return set, nil
}

// Close implements [registry.Source].
func (s *source) Close() error {
	s.client.store.unfollow(s.service)
	return nil
}
