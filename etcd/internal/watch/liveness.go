package watch

import (
	"context"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// checkInterval is how often the watches of a stream are checked: whether they are alive, and whether the store is still the same. What the
// check finds is rare, since a member that is unreachable, hangs or has no leader is noticed within seconds by other means. A check costs
// the cluster a round among its members, and an idle process as much CPU as two or three probes of the connection. It comes just
// before such a probe would be due on an idle connection, and replaces it.
const checkInterval = 5*time.Minute - time.Second

// supervise checks the watches of st again and again until st ends. A watch can be idle for three reasons: nothing happens, the stream
// hangs, or the watch waits for a revision that a store which was restored from a backup has not reached yet. One check is for all
// watches: otherwise an idle process would spend most of its time on waking each of them.
func (st *stream) supervise(s *Streams, every time.Duration) {
	// The context of the stream is not the parent, since it has what the stream began with, such as the token.
	ctx, cancel := context.WithCancel(context.Background())
	defer context.AfterFunc(st.rpc.Context(), cancel)()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			st.checkLiveness(ctx, s)
		case <-ctx.Done():
			return
		}
	}
}

// checkLiveness compares each supervised watch with the store's revision. A watch that is behind may have missed changes; if a watch is
// ahead, the store was restored. Both are marked unverified, and Receive verifies them.
func (st *stream) checkLiveness(ctx context.Context, s *Streams) {
	some := st.supervised()
	if len(some) == 0 {
		return
	}
	now, err := s.revision(ctx, some[0].what, some[0].key)
	all := st.supervised()
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, w := range all {
		if err != nil || w.newest.Load() != now {
			w.unverified = time.Now()
			w.notify()
		}
	}
}

// supervised returns the supervised watches that are open.
func (st *stream) supervised() (all []*Watch) {
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, w := range st.watches {
		if w.supervised {
			all = append(all, w)
		}
	}
	for _, w := range slices.Concat(st.creating, st.waiting) {
		if w.supervised && !w.closed {
			all = append(all, w)
		}
	}
	return all
}

// Supervise includes w in the checks of its stream. Its user must then read it by Receive.
func (w *Watch) Supervise() {
	w.stream.mu.Lock()
	defer w.stream.mu.Unlock()
	w.supervised = true
}

// CheckLiveness checks the watches of w's stream now.
func (w *Watch) CheckLiveness(ctx context.Context) { w.stream.checkLiveness(ctx, w.streams) }

// takeUnverified returns since when w is unverified, and clears that.
func (w *Watch) takeUnverified() (since time.Time, ok bool) {
	w.stream.mu.Lock()
	defer w.stream.mu.Unlock()
	since, w.unverified = w.unverified, time.Time{}
	return since, !since.IsZero()
}

// Receive is Next for a supervised watch. It reports missed if the watch may have missed changes, so that the state must be read again.
func (w *Watch) Receive(ctx context.Context) (changes []*mvccpb.Event, missed bool, err error) {
	for {
		if changes, ok, err := w.Poll(ctx); ok || err != nil {
			return changes, false, err
		}
		if since, ok := w.takeUnverified(); ok {
			if changes, missed, err := w.verify(ctx, since); len(changes) > 0 || missed || err != nil {
				return changes, missed, err
			}
			continue
		}
		select {
		case <-w.ready:
		case <-ctx.Done():
			return nil, false, ctx.Err()
		}
	}
}

// verify finds out whether w, which is unverified since then, has missed changes. It reports missed if w does not reach the revision of the
// store in time.
func (w *Watch) verify(ctx context.Context, since time.Time) (changes []*mvccpb.Event, missed bool, err error) {
	now, err := w.streams.revisionSince(ctx, w.what, w.key, since)
	if err == nil {
		err = w.checkRevision(now)
	}
	if err != nil {
		return nil, false, err
	}
	// etcd reports no progress on a stream while one of its watches waits for a revision that is yet to come, as each watch does that was
	// opened after the newest write to the whole store. If nothing was written, no progress is needed.
	pause, deadline := w.conn.Timeout/5, time.Now().Add(w.conn.Timeout)
	for w.newest.Load() < now {
		left := time.Until(deadline)
		if left <= 0 {
			return nil, true, nil
		}
		w.stream.probe(pause)
		changes, _, err := w.wait(ctx, min(left, pause))
		if len(changes) > 0 || err != nil {
			return changes, false, err
		}
	}
	return nil, false, nil
}

// wait is Next for limit at most. It reports false if nothing has arrived until then.
func (w *Watch) wait(ctx context.Context, limit time.Duration) ([]*mvccpb.Event, bool, error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		if changes, ok, err := w.Poll(ctx); ok || err != nil {
			return changes, ok, err
		}
		select {
		case <-w.ready:
		case <-timer.C:
			return nil, false, nil
		case <-ctx.Done():
			return nil, false, ctx.Err()
		}
	}
}
