package etcd

import (
	"context"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/metadata"
)

// streams are what the watches of a driver go over. All share one stream, as long as nothing is held against it: each stream
// costs etcd several goroutines and their buffers, and us as many again.
type streams struct {
	client pb.WatchClient
	turn   chan struct{} // holds a token; whoever has taken it may open a stream
	work   sync.WaitGroup

	mu      sync.Mutex
	current *stream // which other watches join; nil where the next one opens another
}

func newStreams(client pb.WatchClient) *streams {
	s := &streams{client: client, turn: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	return s
}

// begin begins w, over a stream that is there or over another. ctx governs the opening of that alone.
func (s *streams) begin(ctx context.Context, w *watch, create *pb.WatchCreateRequest) error {
	select {
	case <-s.turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { s.turn <- struct{}{} }()
	token := tokenOf(ctx)
	s.mu.Lock()
	st := s.current
	s.mu.Unlock()
	// etcd holds each watch to the token that its stream began with, and refuses one that has run out.
	if st != nil && st.token == token && st.add(w, create) {
		return nil
	}
	carrier, cancel, err := open(ctx, func(ctx context.Context) (pb.Watch_WatchClient, error) { return s.client.Watch(ctx) })
	if err != nil {
		return err
	}
	st = &stream{carrier: carrier, cancel: cancel, token: token, watches: map[int64]*watch{}, wake: make(chan struct{}, 1)}
	st.add(w, create)
	s.mu.Lock()
	s.current = st
	s.mu.Unlock()
	s.work.Go(st.send)
	s.work.Go(st.receive)
	d, every := w.d, w.d.silence // not w, which may end long before the stream
	s.work.Go(func() { st.oversee(d, every) })
	return nil
}

// forget makes the next watch open another stream than st, of which there is reason to think that it hangs. Those that it
// carries find that out for themselves.
func (s *streams) forget(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == st {
		s.current = nil
	}
}

// wait blocks until all streams have ended, as they do with their connection.
func (s *streams) wait() { s.work.Wait() }

// tokenOf returns the token that a call under ctx carries.
func tokenOf(ctx context.Context) string {
	md, _ := metadata.FromOutgoingContext(ctx)
	if tokens := md.Get(rpctypes.TokenFieldNameGRPC); len(tokens) > 0 {
		return tokens[len(tokens)-1]
	}
	return ""
}

// stream carries watches, which etcd numbers. It ends with the last of them, or when it breaks, and all with it.
type stream struct {
	carrier pb.Watch_WatchClient
	cancel  context.CancelFunc
	token   string

	mu       sync.Mutex
	watches  map[int64]*watch   // by their numbers
	creating []*watch           // that have none yet: etcd answers their requests in order
	requests []*pb.WatchRequest // to be sent
	probed   time.Time          // when a sign of life was asked for last
	users    int                // watches that are open
	over     bool

	wake chan struct{} // holds a token when there are requests, or it is over
}

// add begins w, and reports false where the stream is over.
func (st *stream) add(w *watch, create *pb.WatchCreateRequest) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.over {
		return false
	}
	w.stream = st
	st.users++
	st.creating = append(st.creating, w)
	st.request(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}})
	return true
}

// remove ends w. What etcd still says of it is nobody's.
func (st *stream) remove(w *watch) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if w.closed {
		return
	}
	w.closed, w.answers = true, nil
	if st.users--; st.users == 0 {
		st.end(nil)
		return
	}
	if w.created {
		st.cancelWatch(w)
	}
}

// cancelWatch makes etcd end w. st.mu is held.
func (st *stream) cancelWatch(w *watch) {
	if st.watches[w.number] != w {
		return // etcd has ended it
	}
	delete(st.watches, w.number)
	st.request(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: w.number}}})
}

// probe asks for a sign of life, which every watch gets, unless one was asked for within the pause. etcd answers at once, and
// not at all while a watch of the stream is not up to date.
func (st *stream) probe(pause time.Duration) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if now := time.Now(); now.Sub(st.probed) >= pause {
		st.probed = now
		st.request(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: new(pb.WatchProgressRequest)}})
	}
}

// request has r sent. st.mu is held.
func (st *stream) request(r *pb.WatchRequest) {
	st.requests = append(st.requests, r)
	st.awake()
}

func (st *stream) awake() {
	select {
	case st.wake <- struct{}{}:
	default:
	}
}

// send sends the requests. A member that hangs may hold it up, and nobody else.
func (st *stream) send() {
	for range st.wake {
		st.mu.Lock()
		requests, over := st.requests, st.over
		st.requests = nil
		st.mu.Unlock()
		if over {
			return
		}
		for _, r := range requests {
			if st.carrier.Send(r) != nil {
				return // receive has the reason
			}
		}
	}
}

// receive hands the answers to the watches, until the stream ends.
func (st *stream) receive() {
	for {
		answer, err := st.carrier.Recv()
		st.mu.Lock()
		if err != nil {
			st.end(err)
			st.mu.Unlock()
			return
		}
		st.dispatch(answer)
		st.mu.Unlock()
	}
}

// dispatch hands answer to whom it is for. st.mu is held.
func (st *stream) dispatch(answer *pb.WatchResponse) {
	if answer.Created && len(st.creating) > 0 {
		w := st.creating[0]
		st.creating = st.creating[1:]
		w.created, w.number = true, answer.WatchId
		if !answer.Canceled {
			st.watches[w.number] = w
		}
		if w.closed {
			st.cancelWatch(w)
			return
		}
		w.take(answer)
		return
	}
	if answer.WatchId == everyWatch {
		for _, w := range st.watches {
			w.take(answer)
		}
		return
	}
	if w := st.watches[answer.WatchId]; w != nil {
		w.take(answer)
		switch {
		case answer.CompactRevision > 0:
			st.cancelWatch(w) // etcd keeps it otherwise, and gives no sign of life over the stream as long as it does
		case answer.Canceled:
			delete(st.watches, answer.WatchId)
		}
	}
}

// everyWatch is the number in an answer that is for all watches of a stream.
const everyWatch = -1

// end ends the stream, and the watches that are open with err. st.mu is held.
func (st *stream) end(err error) {
	if st.over {
		return
	}
	st.over = true
	st.cancel()
	st.awake()
	for _, w := range st.watches {
		w.fail(err)
	}
	for _, w := range st.creating {
		w.fail(err)
	}
}
