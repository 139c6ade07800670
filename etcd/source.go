package etcd

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/rollcall-go/rollcall/etcd/internal/conn"
	"github.com/rollcall-go/rollcall/etcd/internal/format"
	"github.com/rollcall-go/rollcall/etcd/internal/watch"
	"github.com/rollcall-go/rollcall/internal/scrub"
	"github.com/rollcall-go/rollcall/registry"
)

// source reads the instances of one service: first the whole set, and then only changes.
type source struct {
	d       *driver
	service string
	prefix  string

	set     []*registry.Instance // sorted by ID; a slice that Next has returned is replaced and never changed
	watch   *watch.Watch         // nil if the next call reads the whole set
	decoder format.Decoder

	reasons    map[string]error      // why entries cannot be read, by ID
	unreadable []registry.Unreadable // the same as a list, which is replaced and never changed; nil if it is out of date

	departures departures

	size   int  // the cost of the set when it was read, and of everything written since
	failed bool // the last call has failed
}

// Next implements [registry.Source].
func (s *source) Next(ctx context.Context) (registry.Set, error) {
	next := s.readChanges
	if s.watch == nil {
		next = s.readAll
	}
	err := next(ctx)
	s.failed = err != nil
	if s.failed {
		if s.watch != nil {
			if ctx.Err() != nil {
				s.watch.Close()
			} else {
				s.watch.Abandon()
			}
			s.watch = nil
		}
		return registry.Set{}, err
	}
	return registry.Set{Instances: s.set, Unreadable: s.unreadable, Departed: s.departures.drain()}, nil
}

// Close implements [registry.Source].
func (s *source) Close() error {
	if s.watch != nil {
		s.watch.Close()
		s.watch = nil
	}
	return nil
}

// what names the watch in errors.
func (s *source) what() string { return "watch service " + s.service }

// readAll reads the whole set, and opens a watch of the changes after it.
func (s *source) readAll(ctx context.Context) error {
	if s.failed { // without a connection it would fail again
		s.d.conn.AwaitRestart(ctx)
	} else {
		s.d.conn.ReconnectNow(ctx)
	}
	set := []*registry.Instance{}
	s.reasons, s.unreadable = nil, nil
	revision, size, err := s.d.list(ctx, "read service "+s.service, s.prefix, func(kv *mvccpb.KeyValue) {
		// The keys of a service are in the order of the IDs.
		if in := s.read(kv); in != nil {
			set = append(set, in)
		}
	})
	if err != nil {
		return err
	}
	s.listUnreadable()
	w, err := s.d.watches.Watch(ctx, s.what(), s.prefix, format.PrefixEnd(s.prefix), revision+1)
	if err != nil {
		return err
	}
	w.Supervise()
	s.departures.listed(set)
	s.set, s.watch, s.size = set, w, size
	return nil
}

// idOf returns the ID of an entry.
func (s *source) idOf(kv *mvccpb.KeyValue) string { return string(kv.Key[len(s.prefix):]) }

// read decodes a value. It returns nil for a value that cannot be read, which is left out alone.
func (s *source) read(kv *mvccpb.KeyValue) *registry.Instance {
	id := s.idOf(kv)
	in, err := (*registry.Instance)(nil), errSize
	if n := len(kv.Value); n > 0 && n <= maxValue {
		in, err = s.decoder.Decode(s.d.format, s.service, id, kv.Value)
	}
	if err != nil {
		s.noteUnreadable(id, errors.New(scrub.Line(s.d.settings.scrub(err.Error()))))
		return nil
	}
	s.noteReadable(id)
	return in
}

// maxBatch bounds the changes of one set: a store that changes all the time must not delay the set for ever.
const maxBatch = 1 << 14

// readChanges blocks until the set has changed.
func (s *source) readChanges(ctx context.Context) error {
	var edit setChanges
	for {
		changes, missed, err := s.watch.Receive(ctx)
		if err != nil {
			return err
		}
		if missed {
			s.watch.Abandon()
			s.watch = nil
			return s.readAll(ctx)
		}
		if err := s.apply(ctx, &edit, changes); err != nil {
			return err
		}
		for len(edit.edits) < maxBatch { // what has arrived already makes one set
			changes, more, err := s.watch.Poll(ctx)
			if err != nil {
				return err
			}
			if !more {
				break
			}
			if err := s.apply(ctx, &edit, changes); err != nil {
				return err
			}
		}
		if s.size > 2*maxSet { // the set may be too large by now, which readAll finds out
			s.watch.Close()
			s.watch = nil
			return s.readAll(ctx)
		}
		set, changed := edit.of(s.set)
		if s.listUnreadable() || changed {
			s.set = set
			return nil
		}
	}
}

// apply takes changes into account.
func (s *source) apply(ctx context.Context, edit *setChanges, changes []*mvccpb.Event) error {
	for _, e := range changes {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var in *registry.Instance
		if e.Type != mvccpb.Event_DELETE {
			s.size += conn.Cost(e.Kv)
			in = s.read(e.Kv)
		}
		id := s.idOf(e.Kv)
		if e.Type == mvccpb.Event_DELETE {
			s.noteReadable(id)
		}
		s.departures.note(e, id, in, s.set)
		edit.put(id, in)
	}
	return nil
}
