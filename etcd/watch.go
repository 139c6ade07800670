package etcd

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/metadata"

	"github.com/rollcall-go/rollcall/registry"
)

// watch brings the changes of a key, or of all keys up to end. It is never resumed: where it breaks it is over, and
// whoever wants to go on reads the state first. So it cannot go on at a store that lost its data meanwhile, which would
// keep silent until it came to the revision that is waited for.
type watch struct {
	d         *driver
	what, key string
	start     int64
	newest    atomic.Int64 // all up to this revision was read, or has come; set by next and poll alone

	stream *stream // whose mu guards what follows
	// etcd numbers a watch when it has created it.
	created bool
	number  int64
	closed  bool
	answers []*pb.WatchResponse // that nobody has asked for yet
	err     error               // what follows them
	// A watch of which nobody makes sure that it is alive is not overseen.
	overseen bool
	doubt    time.Time // since when there is reason to think that it is not, and nothing has come

	ready   chan struct{}   // holds a token when there is something new
	changes []*mvccpb.Event // of a revision that has not come whole yet; used by next and poll alone
}

// farBehind is how many answers may wait to be asked for. Whoever does not ask for so long is better off with a list.
const farBehind = 1 << 16

var errFarBehind = errors.New("there were more changes than anybody asked for")

// watchFrom begins a watch of what happens from revision start on. ctx governs the beginning alone; close ends the watch.
func (d *driver) watchFrom(ctx context.Context, what, key, end string, start int64) (*watch, error) {
	w := &watch{d: d, what: what, key: key, start: start, ready: make(chan struct{}, 1)}
	w.newest.Store(start - 1)
	create := &pb.WatchCreateRequest{Key: []byte(key), StartRevision: start, Fragment: true}
	if end != "" {
		create.RangeEnd = []byte(end)
	}
	if err := d.call(ctx, what, func(ctx context.Context) error { return d.streams.begin(ctx, w, create) }); err != nil {
		return nil, err
	}
	return w, nil
}

// open opens a stream that outlives ctx, which governs the opening alone, and returns what ends it. A member that has no
// leader ends it too, instead of keeping silent until it has one.
func open[S any](ctx context.Context, f func(context.Context) (S, error)) (S, context.CancelFunc, error) {
	led := metadata.AppendToOutgoingContext(ctx, rpctypes.MetadataRequireLeaderKey, rpctypes.MetadataHasLeader)
	life, cancel := context.WithCancel(context.WithoutCancel(led))
	undo := context.AfterFunc(ctx, cancel)
	stream, err := f(life)
	if !undo() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		cancel()
	}
	return stream, cancel, err
}

// take keeps answer until somebody asks for it. stream.mu is held.
func (w *watch) take(answer *pb.WatchResponse) {
	switch {
	case w.closed || w.err != nil:
		return
	case len(w.answers) == farBehind:
		w.answers = nil
		w.fail(errFarBehind)
		return
	}
	w.answers, w.doubt = append(w.answers, answer), time.Time{}
	w.tell()
}

// fail ends the watch. stream.mu is held.
func (w *watch) fail(err error) {
	if w.err == nil {
		w.err = err
	}
	w.tell()
}

func (w *watch) tell() {
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

// next blocks until something has happened, or ctx ends. It returns the changes of whole revisions, or none as a sign of life.
func (w *watch) next(ctx context.Context) ([]*mvccpb.Event, error) {
	for {
		if changes, ok, err := w.poll(ctx); ok || err != nil {
			return changes, err
		}
		select {
		case <-w.ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// poll is next for what has happened already, and reports false where that is nothing.
func (w *watch) poll(ctx context.Context) ([]*mvccpb.Event, bool, error) {
	for {
		w.stream.mu.Lock()
		if len(w.answers) == 0 {
			err := w.err
			w.stream.mu.Unlock()
			return nil, false, w.d.classify(ctx, w.what, w.d.settings.Timeout, err)
		}
		answer := w.answers[0]
		w.answers[0] = nil // what follows may be far off, and the array is kept until then
		w.answers = w.answers[1:]
		w.stream.mu.Unlock()
		if answer.Canceled {
			return nil, false, w.refused(answer)
		}
		if err := w.reaches(ctx, answer); err != nil {
			return nil, false, err
		}
		w.changes = append(w.changes, answer.Events...)
		if !answer.Fragment {
			changes := w.changes
			w.changes = nil
			return changes, true, nil
		}
	}
}

// reaches notes how far the watch has come. It returns an error where the store began again. An answer at an earlier
// revision than what is known may also come from a member that is behind the others for a moment, so the store is asked.
func (w *watch) reaches(ctx context.Context, answer *pb.WatchResponse) error {
	revision := answer.Header.GetRevision()
	if revision < w.newest.Load() {
		now, err := w.d.revision(ctx, w.what, w.key)
		if err != nil {
			return err
		}
		return w.stands(now)
	}
	switch n := len(answer.Events); {
	case answer.Fragment:
	case n > 0: // there may be others up to the revision of the header, which are on their way
		w.newest.Store(max(w.newest.Load(), answer.Events[n-1].Kv.ModRevision))
	case !answer.Created:
		w.newest.Store(revision)
	}
	return nil
}

// stands returns an error where the store, which is at revision now, is not the one that it was.
func (w *watch) stands(now int64) error {
	if newest := w.newest.Load(); now < newest {
		return w.d.unavailable(w.what, fmt.Sprintf("the store began again: its revision fell from %d to %d", newest, now))
	}
	return nil
}

// refused tells why there will be nothing more after answer.
func (w *watch) refused(answer *pb.WatchResponse) error {
	if answer.CompactRevision > 0 {
		return w.d.unavailable(w.what, fmt.Sprintf("etcd was compacted at revision %d, and the watch was still at %d", answer.CompactRevision, w.start))
	}
	return w.d.failure(w.kindOf(answer.CancelReason), w.what, "etcd ended the watch: "+answer.CancelReason, false)
}

// kindOf tells what a reason means, which is a text alone.
func (w *watch) kindOf(reason string) error {
	for _, denied := range []error{rpctypes.ErrGRPCPermissionDenied, rpctypes.ErrGRPCUserEmpty} {
		if reason == denied.Error() {
			return registry.ErrDenied
		}
	}
	return registry.ErrUnavailable
}

// close ends the watch. It does not block on the store.
func (w *watch) close() { w.stream.remove(w) }

// abandon is close for a watch that has failed: the next one is to go over another stream.
func (w *watch) abandon() {
	w.d.streams.forget(w.stream)
	w.close()
}
