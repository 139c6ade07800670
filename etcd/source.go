package etcd

import (
	"cmp"
	"context"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/rollcall-go/rollcall/registry"
)

// source reads the instances of one service. It reads the whole set once, and then changes alone.
type source struct {
	d       *driver
	service string
	prefix  string

	set   []*registry.Instance // sorted by ID; what was returned is replaced and never changed
	watch *watch               // nil where the next call starts afresh
	found []registry.Unreadable
	alike alike

	listed int64 // the revision of the last list
	failed bool  // the last call did
}

var _ registry.UnreadableReporter = (*source)(nil)

// Next implements [registry.Source].
func (s *source) Next(ctx context.Context) ([]*registry.Instance, error) {
	next := s.changed
	if s.watch == nil {
		next = s.fresh
	}
	err := next(ctx)
	if s.failed = err != nil; s.failed {
		if s.watch != nil {
			if ctx.Err() != nil {
				s.watch.close()
			} else {
				s.watch.abandon()
			}
			s.watch = nil
		}
		return nil, err
	}
	return s.set, nil
}

// Close implements [registry.Source].
func (s *source) Close() error {
	if s.watch != nil {
		s.watch.close()
		s.watch = nil
	}
	return nil
}

func (s *source) what() string { return "watch service " + s.service }

// fresh reads the whole set, and opens a watch of what comes after it.
func (s *source) fresh(ctx context.Context) error {
	if s.failed { // an attempt without a connection has nothing to gain
		s.d.reconnected(ctx)
	} else {
		s.d.urge(ctx)
	}
	all, revision, err := s.d.list(ctx, "read service "+s.service, s.prefix)
	if err != nil {
		return err
	}
	if revision < s.listed {
		s.d.unreadable.restart(s.service, revision)
	}
	s.listed = revision
	set := make([]*registry.Instance, 0, len(all))
	bad := map[string]bool{}
	for _, kv := range all {
		// Keys of one service come in the order of the IDs.
		if in := s.read(kv); in != nil {
			set = append(set, in)
		} else {
			bad[s.idOf(kv)] = true
		}
	}
	s.d.unreadable.keep(s.service, bad, revision)
	w, err := s.d.watchFrom(ctx, s.what(), s.prefix, prefixEnd(s.prefix), revision+1)
	if err != nil {
		return err
	}
	w.oversee()
	s.set, s.watch = set, w
	return nil
}

func (s *source) idOf(kv *mvccpb.KeyValue) string { return string(kv.Key[len(s.prefix):]) }

// read decodes a value. It is nil where that is no instance, which is left out alone.
func (s *source) read(kv *mvccpb.KeyValue) *registry.Instance {
	id := s.idOf(kv)
	in, err := s.alike.read(s.d.format, s.service, id, kv.Value)
	if err != nil {
		s.cannotRead(id, kv.ModRevision, err)
		return nil
	}
	return in
}

// changed blocks until the set has changed.
func (s *source) changed(ctx context.Context) error {
	edit := edition{set: s.set}
	for {
		changes, mute, err := s.receive(ctx)
		if err != nil {
			return err
		}
		if mute {
			s.watch.abandon()
			s.watch = nil
			return s.fresh(ctx)
		}
		s.apply(&edit, changes)
		for { // what has come already makes one set
			changes, more, err := s.watch.poll(ctx)
			if err != nil {
				return err
			}
			if !more {
				break
			}
			s.apply(&edit, changes)
		}
		if edit.changed || len(s.found) > 0 { // what was found is told of at once, not beside a change that may be far off
			s.set = edit.set
			return nil
		}
	}
}

func (s *source) apply(edit *edition, changes []*mvccpb.Event) {
	for _, e := range changes {
		var in *registry.Instance
		if e.Type != mvccpb.Event_DELETE {
			in = s.read(e.Kv)
		}
		if in != nil || e.Type == mvccpb.Event_DELETE {
			s.d.unreadable.remove(s.service, s.idOf(e.Kv), e.Kv.ModRevision)
		}
		edit.put(s.idOf(e.Kv), in)
	}
}

// receive waits for something to happen. It reports mute where something may have been missed.
func (s *source) receive(ctx context.Context) (changes []*mvccpb.Event, mute bool, err error) {
	for {
		if changes, ok, err := s.watch.poll(ctx); ok || err != nil {
			return changes, false, err
		}
		if since, doubted := s.watch.doubted(); doubted {
			if changes, mute, err := s.dispel(ctx, since); len(changes) > 0 || mute || err != nil {
				return changes, mute, err
			}
			continue
		}
		select {
		case <-s.watch.ready:
		case <-ctx.Done():
			return nil, false, ctx.Err()
		}
	}
}

// dispel looks into a silence that is in doubt. It reports mute where that does not tell whether something was missed.
func (s *source) dispel(ctx context.Context, since time.Time) (changes []*mvccpb.Event, mute bool, err error) {
	now, err := s.d.recentRevision(ctx, s.what(), s.watch.key, since)
	if err == nil {
		err = s.watch.stands(now)
	}
	if err != nil {
		return nil, false, err
	}
	// etcd gives no sign of life over a stream of which one watch waits for a revision that is yet to come, as each does
	// that began after the newest write to the whole store. None is needed where nothing was written.
	pause, deadline := s.d.settings.Timeout/5, time.Now().Add(s.d.settings.Timeout)
	for s.watch.newest.Load() < now {
		left := time.Until(deadline)
		if left <= 0 {
			return nil, true, nil
		}
		s.watch.stream.probe(pause)
		changes, _, err := s.wait(ctx, min(left, pause))
		if len(changes) > 0 || err != nil {
			return changes, false, err
		}
	}
	return nil, false, nil
}

// wait waits no longer than limit. It reports false where nothing happened until then.
func (s *source) wait(ctx context.Context, limit time.Duration) ([]*mvccpb.Event, bool, error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		if changes, ok, err := s.watch.poll(ctx); ok || err != nil {
			return changes, ok, err
		}
		select {
		case <-s.watch.ready:
		case <-timer.C:
			return nil, false, nil
		case <-ctx.Done():
			return nil, false, ctx.Err()
		}
	}
}

// edition is a set that is about to replace another.
type edition struct {
	set     []*registry.Instance
	changed bool // set is a copy of what it was
}

// put makes in the entry of id; nil is none.
func (e *edition) put(id string, in *registry.Instance) {
	i, found := slices.BinarySearchFunc(e.set, id, func(in *registry.Instance, id string) int { return cmp.Compare(in.ID, id) })
	if !found && in == nil || found && in != nil && e.set[i].Equal(in) {
		return
	}
	if !e.changed {
		e.set, e.changed = append(make([]*registry.Instance, 0, len(e.set)+1), e.set...), true // one more is what mostly comes
	}
	switch {
	case in == nil:
		e.set = slices.Delete(e.set, i, i+1)
	case found:
		e.set[i] = in
	default:
		e.set = slices.Insert(e.set, i, in)
	}
}
