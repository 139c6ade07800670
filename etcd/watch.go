package etcd

import (
	"context"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/metadata"

	"github.com/rollcall-go/rollcall/registry"
)

// watch is a stream of the changes of a key, or of all keys up to end. It is never resumed: where it breaks it is over, and
// whoever wants to go on reads the state first. So it cannot go on at a store that lost its data meanwhile, which would
// keep silent until it came to the revision that is waited for.
type watch struct {
	d      *driver
	what   string
	stream pb.Watch_WatchClient
	cancel context.CancelFunc
	start  int64
}

// watchFrom opens a watch of what happens from revision start on. ctx governs the opening alone; close ends the watch.
func (d *driver) watchFrom(ctx context.Context, what, key, end string, start int64) (*watch, error) {
	w := &watch{d: d, what: what, start: start}
	err := d.call(ctx, what, func(ctx context.Context) (err error) {
		w.stream, w.cancel, err = open(ctx, func(ctx context.Context) (pb.Watch_WatchClient, error) {
			return d.watches.Watch(ctx)
		})
		if err != nil {
			return err
		}
		create := &pb.WatchCreateRequest{Key: []byte(key), StartRevision: start, Fragment: true}
		if end != "" {
			create.RangeEnd = []byte(end)
		}
		err = w.stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}})
		if err != nil {
			w.cancel()
		}
		return err
	})
	if err != nil {
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

// next blocks until something has happened. It returns the changes of whole revisions, and the newest revision known; there
// may be none. ctx is for the error alone: close is what ends it.
func (w *watch) next(ctx context.Context) (changes []*mvccpb.Event, revision int64, err error) {
	for {
		answer, err := w.stream.Recv()
		if err != nil {
			return nil, 0, w.d.classify(ctx, w.what, w.d.settings.Timeout, err)
		}
		if err := w.refused(answer); err != nil {
			return nil, 0, err
		}
		changes = append(changes, answer.Events...)
		if !answer.Fragment {
			return changes, answer.Header.GetRevision(), nil
		}
	}
}

// refused tells why there will be nothing more after answer.
func (w *watch) refused(answer *pb.WatchResponse) error {
	switch {
	case answer.Canceled && answer.CompactRevision > 0:
		return w.d.compacted(w.what, w.start, answer.CompactRevision)
	case answer.Canceled:
		return w.d.failure(w.kindOf(answer.CancelReason), w.what, "etcd ended the watch: "+answer.CancelReason, false)
	case answer.Created && answer.Header.GetRevision() < w.start-1:
		return w.d.rolledBack(w.what, w.start-1, answer.Header.GetRevision())
	}
	return nil
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

// probe asks for a sign of life, which next then returns.
func (w *watch) probe() error {
	return w.stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: new(pb.WatchProgressRequest)}})
}

// close ends the watch, and a next that runs.
func (w *watch) close() { w.cancel() }

// compacted is the failure of a watch whose next change etcd has forgotten.
func (d *driver) compacted(what string, start, compact int64) error {
	return d.unavailable(what, fmt.Sprintf("etcd was compacted at revision %d, and the watch was still at %d", compact, start))
}

// rolledBack is the failure of a call that finds the store at an earlier revision than it was at.
func (d *driver) rolledBack(what string, before, now int64) error {
	return d.unavailable(what, fmt.Sprintf("the store began again: its revision fell from %d to %d", before, now))
}
