package consul

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/consul/internal/agent"
	"github.com/rollcall-go/rollcall/registry"
)

// valueSource reads the value of one key, in the phases of source.
//
// A server that is wrong about a key says 404. It may lag behind, replay its log, or have lost its data. So an absence is confirmed by a
// consistent read, which a server answers only when it is the leader and has all that was committed. A gateway that has no Consul behind it
// says 404 too, but without an index.
type valueSource struct {
	reader
	key  string // as Consul has it
	name string // as the program has it

	last    *registry.Value // what Next returned last; nil is an absence
	missing time.Time       // when the key that was there was found to be absent; zero if it is not missing
}

// WatchValue implements [registry.Driver].
func (d *driver) WatchValue(key string) registry.ValueSource {
	return &valueSource{reader: reader{d: d}, key: d.storedKey(key), name: key}
}

// Next implements [registry.ValueSource].
func (s *valueSource) Next(ctx context.Context) (v *registry.Value, err error) {
	err = s.d.anywhere(ctx, func(d *driver) error {
		return s.at(d, func() error {
			v, err = s.next(ctx)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	switch {
	case v != nil:
		s.missing = time.Time{}
	case s.last != nil:
		s.missing = time.Now()
	}
	s.last = v
	return v, nil
}

// Close implements [registry.ValueSource]. The connections are the driver's.
func (s *valueSource) Close() error { return nil }

func (s *valueSource) next(ctx context.Context) (*registry.Value, error) {
	switch s.phase {
	case watching:
		return s.watch(ctx)
	case recovering:
		if err := s.awaitLeader(ctx, s.what()); err != nil {
			return nil, err
		}
	}
	return s.readFresh(ctx)
}

// watch waits for a change, and confirms an answer that need not be true.
func (s *valueSource) watch(ctx context.Context) (*registry.Value, error) {
	before := s.index
	v, index, err := s.read(ctx, before, false)
	fell := index < before
	switch {
	case err != nil:
		return nil, err
	case fell:
		s.phase = recovering // the store began again
	case v != nil || s.last == nil: // an absence was confirmed before, and writes of other keys end a wait for an absent key
		s.watchFrom(index)
		return v, nil
	}
	if v, err = s.readFresh(ctx); err == nil && v == nil && s.last != nil && (fell || s.index < before) {
		// This error comes once. The next read finds the absence, which package registry withholds for a while.
		s.last, s.phase = nil, recovering
		return nil, s.d.agent.Unavailable(s.what(), fmt.Sprintf("the store began again: its index fell below %d, and it does not have the key", before))
	}
	return v, err
}

// readFresh reads the value without waiting. It confirms an absence, and an older value than before, by a consistent read.
func (s *valueSource) readFresh(ctx context.Context) (*registry.Value, error) {
	consistent := s.wantsConsistent() && !s.d.settings.Stale
	v, index, err := s.read(ctx, 0, consistent)
	isOlder := v != nil && s.last != nil && v.Revision < s.last.Revision // from a server that lags behind, or a store that began again
	if err == nil && (v == nil || isOlder) && !consistent {
		v, index, err = s.read(ctx, 0, true)
	}
	if err != nil {
		return nil, err
	}
	s.watchFrom(index)
	return v, nil
}

// watchFrom begins to watch for changes after index.
func (s *valueSource) watchFrom(index uint64) { s.phase, s.index = watching, index }

// wait returns how long a read waits for a change. The first waits after an absence are brief, since the absence may come from another
// store behind the same address, with an index that is far too high for the right store. At the right store, a read with that index
// ends only when its wait is over, and then shows that the index fell.
func (s *valueSource) wait() time.Duration {
	most := s.d.settings.Wait
	if s.missing.IsZero() {
		return most
	}
	return min(most, max(minConfirmWait, time.Since(s.missing)))
}

func (s *valueSource) what() string { return "read the value of " + s.name }

// read makes one read of the value, which is nil if Consul has no such key. With an index it waits until there is a higher one.
func (s *valueSource) read(ctx context.Context, index uint64, consistent bool) (*registry.Value, uint64, error) {
	class := agent.Lookup
	if index > 0 {
		class = agent.Watch
	}
	slot, err := s.d.agent.Limiter.Acquire(ctx, class)
	if err != nil {
		return nil, 0, err
	}
	limit, wait := s.d.settings.Timeout, slot.Wait(s.wait())
	if index > 0 {
		limit = waitLimit(wait)
	}
	var pair *api.KVPair
	var meta *api.QueryMeta
	got := agent.Capture{}
	err = s.d.call(ctx, s.what(), limit, func(ctx context.Context) (err error) {
		o := s.d.valueReadOptions(agent.WithCapture(ctx, &got))
		if consistent {
			o.AllowStale, o.RequireConsistent = false, true
		}
		if index > 0 {
			o.WaitIndex, o.WaitTime = index, wait
		}
		pair, meta, err = s.d.agent.Client.KV().Get(s.key, o)
		if err == nil && pair == nil && got.Status == http.StatusNotFound && meta.LastIndex == 0 {
			return agent.UnmarkedError{StatusError: api.StatusError{Code: http.StatusNotFound, Body: "without an index"}}
		}
		return err
	})
	slot.Release(got.Status, got.Version)
	s.noteRead(err, got.Status)
	switch {
	case err != nil:
		return nil, 0, err
	case s.d.settings.MaxStale > 0 && !consistent && meta.LastContact > s.d.settings.MaxStale:
		return s.read(ctx, 0, true)
	case meta.LastIndex == 0:
		return nil, 0, s.d.agent.Unavailable(s.what(), "an answer without an index")
	case pair == nil && got.Status != http.StatusNotFound:
		return nil, 0, s.d.agent.Unavailable(s.what(), "an answer without a value")
	case pair == nil:
		return nil, meta.LastIndex, nil
	case pair.Key != s.key:
		return nil, 0, s.d.agent.Unavailable(s.what(), fmt.Sprintf("an answer for the key %q", pair.Key))
	}
	return valueOf(s.name, pair), meta.LastIndex, nil
}

// valueOf returns a pair of Consul as a value.
func valueOf(key string, pair *api.KVPair) *registry.Value {
	return &registry.Value{Key: key, Data: append([]byte{}, pair.Value...), Revision: pair.ModifyIndex}
}

// storedKey returns the key that Consul has for a key.
func (d *driver) storedKey(key string) string {
	if d.settings.ValuePrefix == "" {
		return key
	}
	return d.settings.ValuePrefix + "/" + key
}

// valueReadOptions returns the options of a read of a value. A peer has none.
func (d *driver) valueReadOptions(ctx context.Context) *api.QueryOptions {
	o := d.readOptions(ctx)
	o.Peer = ""
	return o
}
