package registry

import (
	"context"
	"errors"
	"time"
)

// A Lookup sees the writes that this Registry made before it. The shared watch learns of a write a moment later, so until then a Lookup
// makes a read of its own. That read is not published: it could take the readers of the watch back to an older set.

// lookupState is the part of a feed that only lookups need. The feed's mutex guards it.
type lookupState struct {
	writes  int         // number of writes to the service by this Registry
	seen    int         // number of these writes that the state is known to show
	reading *writesRead // the newest read for writes
	newest  *state      // the result of the last read that a Lookup made itself; nil if something was published since

	outdated func() bool // Set.Outdated of the newest answer or failure
}

// writesRead is one read, shared by all lookups that follow the same writes.
type writesRead struct {
	writes int
	done   chan struct{}
	st     state
	err    error
}

// published records that read is published or withheld.
func (d *lookupState) published(read Set) { d.newest, d.outdated = nil, read.Outdated }

// wrote notes in all feeds of a service that this Registry has changed it.
func (r *Registry) wrote(service string) {
	for _, f := range r.feedsOf(service) {
		f.mu.Lock()
		f.lookups.writes++
		f.mu.Unlock()
	}
}

// feedsOf returns the feeds of a service.
func (r *Registry) feedsOf(service string) (feeds []*feed) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.feeds {
		if f.query.Service == service {
			feeds = append(feeds, f)
		}
	}
	return feeds
}

// misses reports whether the state may lack a write of this Registry.
func (f *feed) misses() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lookups.seen < f.lookups.writes
}

// isBehind reports whether the store, which is in this process, has more than the state shows. That includes a set which is
// withheld although there was no outage.
func (f *feed) isBehind() bool {
	f.mu.Lock()
	outdated := f.lookups.outdated
	withholds := f.shrink.grace != nil && !f.shrink.grace.outage
	f.mu.Unlock()
	return outdated != nil && (withholds || outdated())
}

// readForWrites makes a read that shows all writes of this Registry so far. Lookups that wait for the same writes share it.
func (f *feed) readForWrites(ctx context.Context) (state, error) {
	for {
		f.mu.Lock()
		d := f.lookups.reading
		if d == nil || d.writes < f.lookups.writes {
			d = &writesRead{writes: f.lookups.writes, done: make(chan struct{})}
			f.lookups.reading = d
			f.mu.Unlock()
			d.st, d.err = f.read(ctx, d.writes)
			f.mu.Lock()
			if f.lookups.reading == d {
				f.lookups.reading = nil
			}
			f.mu.Unlock()
			close(d.done)
			return d.st, d.err
		}
		f.mu.Unlock()
		select {
		case <-d.done:
			if ended(d.err) && ctx.Err() == nil {
				continue // it was the context of the other Lookup
			}
			return d.st, d.err
		case <-ctx.Done():
			st := f.bestKnown()
			return st, st.stale(f.r.unanswered(ctx.Err()))
		}
	}
}

func ended(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// read makes one attempt to read the set for a Lookup. It returns the last good set beside an error. writes is how many writes of
// this Registry the read follows.
func (f *feed) read(ctx context.Context, writes int) (state, error) {
	opCtx, end, err := f.r.beginRead(ctx)
	if err != nil {
		st := f.bestKnown()
		return st, st.stale(err)
	}
	defer end()
	src := f.r.driver.Watch(f.query)
	defer src.Close()
	read, err := next(opCtx, f.r.limit, src)
	if err != nil {
		st := f.bestKnown()
		return st, st.stale(f.r.classify(ctx, err))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lookedUp(read, writes, time.Now())
}

// lookedUp returns the result for a Lookup that has made a read of its own. f.mu is locked.
func (f *feed) lookedUp(read Set, writes int, now time.Time) (state, error) {
	set, same := merge(f.state.all.set, read.Instances, f.query)
	st := f.state
	if same && st.known {
		f.lookups.seen = max(f.lookups.seen, writes)
	} else {
		st = st.withSet(set)
	}
	st.origin, st.since, st.withheld = FromRegistry, time.Time{}, nil
	outage := f.outage.failures > 0 || f.justRecovered(now) || f.shrink.grace != nil && f.shrink.grace.outage
	if !same && (outage || read.Outdated == nil) {
		if v := f.examine(&st, now); v.suspect != nothingSuspect {
			st = f.state.withSet(v.shown)
			st.withheld = v.withheld
			return st, st.stale(v.err(outage, v.grace))
		}
	}
	f.lookups.newest = &st
	return st, nil
}
