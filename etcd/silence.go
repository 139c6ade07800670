package etcd

import (
	"context"
	"time"
)

// longSilence is how often the driver makes sure that the watches of a stream are alive, and that the store is still the one
// that it was. It is just before a probe of the connection would be due that idles, and in place of it. What it is there for is
// rare, since a member that is gone, hangs or has no leader is found out within seconds by other means; and it costs the cluster
// a round among its members, and an idle process as much CPU as two or three probes.
const longSilence = 30*DefaultKeepAliveTime - time.Second

// oversee looks after the watches of st. A watch can be silent because nothing happens, because the stream hangs, and because
// it waits for a revision that a store which was restored from a backup has yet to come to. One look is for all of them: a
// process that idles would spend most of its time on waking each to look for itself.
func (st *stream) oversee(d *driver, every time.Duration) {
	// That of the stream is no parent, since it says what the stream began with.
	ctx, cancel := context.WithCancel(context.Background())
	defer context.AfterFunc(st.carrier.Context(), cancel)()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			st.look(ctx, d)
		case <-ctx.Done():
			return
		}
	}
}

// look reads the revision of the store, and doubts each watch that has not come as far, or farther. Whoever follows that finds
// out why.
func (st *stream) look(ctx context.Context, d *driver) {
	some := st.overseen()
	if len(some) == 0 {
		return
	}
	now, err := d.revision(ctx, some[0].what, some[0].key)
	all := st.overseen()
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, w := range all {
		if err != nil || w.newest.Load() != now {
			w.doubt = time.Now()
			w.tell()
		}
	}
}

func (st *stream) overseen() (all []*watch) {
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, w := range st.watches {
		if w.overseen {
			all = append(all, w)
		}
	}
	for _, w := range st.creating {
		if w.overseen && !w.closed {
			all = append(all, w)
		}
	}
	return all
}

// oversee has w looked after: it is doubted while it may have missed something.
func (w *watch) oversee() {
	w.stream.mu.Lock()
	defer w.stream.mu.Unlock()
	w.overseen = true
}

// doubted reports since when w is in doubt, and has it asked once.
func (w *watch) doubted() (since time.Time, ok bool) {
	w.stream.mu.Lock()
	defer w.stream.mu.Unlock()
	since, w.doubt = w.doubt, time.Time{}
	return since, !since.IsZero()
}
