package memory

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/rollcall-go/rollcall/registry"
)

// values are the values of a store. The store's mutex guards them.
type values struct {
	byKey    map[string]*registry.Value
	revision uint64                   // of the newest write
	changed  map[string]chan struct{} // closed at the next change of the key; none while no source waits
}

// touch wakes the sources that wait for a change of key.
func (v *values) touch(key string) {
	if changed, ok := v.changed[key]; ok {
		close(changed)
		delete(v.changed, key)
	}
}

// check returns why a condition of o is not met, or nil.
func (v *values) check(key string, o registry.PutOptions) error {
	now := v.byKey[key]
	switch {
	case o.IfAbsent && now != nil:
		return fmt.Errorf("%w: the key has a value, of revision %d", registry.ErrConflict, now.Revision)
	case o.IfRevision != 0 && now == nil:
		return fmt.Errorf("%w: there is no such key", registry.ErrConflict)
	case o.IfRevision != 0 && now.Revision != o.IfRevision:
		return fmt.Errorf("%w: the revision is %d, not %d", registry.ErrConflict, now.Revision, o.IfRevision)
	}
	return nil
}

// putValue writes a value if the conditions are met.
func (s *store) putValue(key string, data []byte, o registry.PutOptions) (*registry.Value, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.values.check(key, o); err != nil {
		return nil, err
	}
	s.values.revision++
	v := &registry.Value{Key: key, Data: slices.Clone(data), Revision: s.values.revision}
	s.values.byKey[key] = v
	s.values.touch(key)
	return v, nil
}

// deleteValue deletes a value if the conditions are met.
func (s *store) deleteValue(key string, o registry.PutOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.values.check(key, o); err != nil {
		return err
	}
	delete(s.values.byKey, key)
	s.values.touch(key)
	return nil
}

// valueSince returns the value of key if this is the first read or it is another than seen, and otherwise a channel that closes at the next change.
func (s *store) valueSince(key string, seen *registry.Value, first bool) (v *registry.Value, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v = s.values.byKey[key]; first || v != seen {
		return v, nil
	}
	waits := s.values.changed[key]
	if waits == nil {
		waits = make(chan struct{})
		s.values.changed[key] = waits
	}
	return nil, waits
}

// putValue is the PutValue of the driver's properties.
func (c *client) putValue(ctx context.Context, key string, data []byte, o registry.PutOptions) (v *registry.Value, err error) {
	failed := c.write(ctx, func() { v, err = c.store.putValue(key, data, o) })
	return v, cmp.Or(failed, err)
}

// deleteValue is the DeleteValue of the driver's properties.
func (c *client) deleteValue(ctx context.Context, key string, o registry.PutOptions) (err error) {
	failed := c.call(ctx, func() <-chan struct{} {
		err = c.store.deleteValue(key, o)
		return nil
	})
	return cmp.Or(failed, err)
}

// valueSource follows one key.
type valueSource struct {
	client *client
	key    string
	known  bool            // Next has returned seen
	seen   *registry.Value // what Next returned last
	drops  int             // the count of DropWatches that this source has taken note of
}

// WatchValue implements [registry.Driver].
func (c *client) WatchValue(key string) registry.ValueSource {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &valueSource{client: c, key: key, drops: c.drops}
}

// Next implements [registry.ValueSource].
func (s *valueSource) Next(ctx context.Context) (*registry.Value, error) {
	var v *registry.Value
	var dropped error
	s.client.count()
	err := s.client.waitAlive(ctx, func() <-chan struct{} {
		if s.drops != s.client.drops {
			s.drops = s.client.drops
			dropped = fmt.Errorf("%w: the watch was dropped", registry.ErrUnavailable)
			return nil
		}
		var changed <-chan struct{}
		v, changed = s.client.store.valueSince(s.key, s.seen, !s.known)
		return changed
	})
	if err = cmp.Or(err, dropped); err != nil {
		s.known, s.seen = false, nil
		return nil, err
	}
	s.known, s.seen = true, v
	return v, nil
}

// Close implements [registry.ValueSource].
func (s *valueSource) Close() error { return nil }
