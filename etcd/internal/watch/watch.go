package watch

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/rollcall-go/rollcall/etcd/internal/conn"
)

// Watch delivers the changes of a key, or of all keys up to end. A watch that has failed is never resumed: its user reads the state again,
// and then opens another watch. A resumed watch would be blind if the store lost its data meanwhile, until the store reached the
// revision that the watch waits for.
type Watch struct {
	conn     *conn.Conn
	streams  *Streams
	what     string
	key, end string // the range: the keys from key up to end, or key alone if end is empty
	start    int64
	newest   atomic.Int64 // all changes up to this revision were read or have arrived; Next and Poll alone set it

	stream  *stream // whose mu guards what follows
	created bool
	number  int64 // the requested number, and once the watch was created, its number
	closed  bool
	answers []*pb.WatchResponse // not read yet
	err     error               // that follows the answers
	pending int                 // the cost of the answers that Poll has read of an incomplete revision
	// A watch is supervised if its user calls Receive, which verifies it.
	supervised bool
	unverified time.Time // since when the watch may have missed changes and nothing has arrived; zero if there is no reason to think so

	ready   chan struct{}   // has a token when there is something new
	changes []*mvccpb.Event // of an incomplete revision; used by Next and Poll alone
}

// maxQueue bounds the changes that the watches of one stream keep until they are read, in bytes counted by conn.Cost.
const maxQueue = 64 << 20

// maxAnswers bounds the answers that one watch keeps. A reader that is so far behind is better off reading the state again.
const maxAnswers = 1 << 16

var errTooFarBehind = fmt.Errorf("more than %d answers, or %d MiB of changes, were not read in time or are parts of one revision", maxAnswers, maxQueue>>20)

// Watch opens a watch of the changes from revision start on. ctx governs only the opening; Close ends the watch. what names the operation in
// errors. An empty end means key alone.
func (s *Streams) Watch(ctx context.Context, what, key, end string, start int64) (*Watch, error) {
	w := s.unopened(what, key, end, start)
	if err := s.conn.Call(ctx, what, func(ctx context.Context) error { return s.begin(ctx, w) }); err != nil {
		return nil, err
	}
	return w, nil
}

// unopened returns a watch that has no stream yet.
func (s *Streams) unopened(what, key, end string, start int64) *Watch {
	w := &Watch{conn: s.conn, streams: s, what: what, key: key, end: end, start: start, ready: make(chan struct{}, 1)}
	w.newest.Store(start - 1)
	return w
}

// covers reports whether key is in the range of w.
func (w *Watch) covers(key []byte) bool {
	if w.end == "" {
		return string(key) == w.key
	}
	return string(key) >= w.key && string(key) < w.end
}

// enqueue keeps answer until Poll reads it. The caller has locked stream.mu.
func (w *Watch) enqueue(answer *pb.WatchResponse) {
	if w.closed || w.err != nil {
		return
	}
	n := costOf(answer)
	if len(w.answers) == maxAnswers || w.stream.queued+n > maxQueue {
		w.stream.drop(w)
		w.fail(errTooFarBehind)
		return
	}
	w.stream.queued += n
	w.answers, w.unverified = append(w.answers, answer), time.Time{}
	w.notify()
}

// fail ends the watch with err. The caller has locked stream.mu.
func (w *Watch) fail(err error) {
	if w.err == nil {
		w.err = err
	}
	w.notify()
}

// notify wakes the reader.
func (w *Watch) notify() {
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

// Next blocks until etcd has sent something, or ctx ends. It returns the changes of complete revisions, or none if etcd reported progress.
func (w *Watch) Next(ctx context.Context) ([]*mvccpb.Event, error) {
	for {
		if changes, ok, err := w.Poll(ctx); ok || err != nil {
			return changes, err
		}
		select {
		case <-w.ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Poll is Next without blocking. It reports false if nothing has arrived.
func (w *Watch) Poll(ctx context.Context) ([]*mvccpb.Event, bool, error) {
	for {
		w.stream.mu.Lock()
		if len(w.answers) == 0 {
			err := w.err
			w.stream.mu.Unlock()
			return nil, false, w.conn.Classify(ctx, w.what, w.conn.Timeout, err)
		}
		answer := w.read()
		w.stream.mu.Unlock()
		if answer.Canceled {
			return nil, false, w.ended(answer)
		}
		if err := w.advance(ctx, answer); err != nil {
			return nil, false, err
		}
		if !answer.Fragment && len(w.changes) == 0 {
			return answer.Events, true, nil
		}
		w.changes = append(w.changes, answer.Events...)
		if !answer.Fragment {
			changes := w.changes
			w.changes = nil
			return changes, true, nil
		}
	}
}

// read removes the oldest answer. A part of a revision counts for the queue until the revision is complete. The caller has locked stream.mu.
func (w *Watch) read() *pb.WatchResponse {
	answer := w.answers[0]
	w.answers[0] = nil // the array is kept until it is full
	w.answers = w.answers[1:]
	w.pending += costOf(answer)
	if !answer.Fragment {
		w.stream.queued -= w.pending
		w.pending = 0
	}
	return answer
}

// advance notes how far the watch has come. It returns an error if the store was wiped or restored. An answer with an earlier revision
// may also come from a member that is behind for a moment, so the revision of the store is read.
func (w *Watch) advance(ctx context.Context, answer *pb.WatchResponse) error {
	revision := answer.Header.GetRevision()
	if revision < w.newest.Load() {
		now, err := w.streams.revision(ctx, w.what, w.key)
		if err != nil {
			return err
		}
		return w.checkRevision(now)
	}
	switch n := len(answer.Events); {
	case answer.Fragment:
	case n > 0: // further changes up to the revision of the header may follow
		w.newest.Store(max(w.newest.Load(), answer.Events[n-1].Kv.ModRevision))
	case !answer.Created:
		w.newest.Store(revision)
	}
	return nil
}

// Close ends the watch. It does not block on the store.
func (w *Watch) Close() { w.stream.remove(w) }

// Abandon is Close for a watch that has failed: the next one uses another stream.
func (w *Watch) Abandon() {
	w.streams.forget(w.stream)
	w.Close()
}
