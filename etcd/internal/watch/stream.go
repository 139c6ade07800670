// Package watch delivers the changes of ranges of keys. All watches share one stream, whose liveness is checked for all of them at once.
package watch

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/rollcall-go/rollcall/etcd/internal/conn"
	"github.com/rollcall-go/rollcall/internal/scrub"
)

// Streams open the streams that the watches of a connection share. New watches join the current stream unless there is reason to think
// that it hangs: each stream costs etcd, and this process, several goroutines and their buffers.
type Streams struct {
	conn    *conn.Conn
	every   time.Duration // checkInterval, except in tests
	recent  recentRevision
	opening chan struct{} // has a token while no watch is being added; who takes it may open a stream
	work    sync.WaitGroup

	mu      sync.Mutex
	current *stream // that new watches join; nil if the next one opens another
}

// New returns the streams of a connection. The first watch opens one.
func New(c *conn.Conn) *Streams {
	s := &Streams{conn: c, every: checkInterval, opening: make(chan struct{}, 1)}
	s.opening <- struct{}{}
	return s
}

// begin adds w to the current stream, or to a new one. ctx governs only the opening of that.
func (s *Streams) begin(ctx context.Context, w *Watch) error {
	select {
	case <-s.opening:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { s.opening <- struct{}{} }()
	token := conn.TokenOf(ctx)
	s.mu.Lock()
	st := s.current
	s.mu.Unlock()
	// etcd checks each watch by the token that its stream began with, and refuses a token that has expired.
	if st != nil && st.token == token && st.add(w) {
		return nil
	}
	st = newStream(nil, nil, s.conn.Timeout)
	var err error
	st.rpc, st.cancel, err = conn.OpenStream(ctx, &st.late, func(ctx context.Context) (pb.Watch_WatchClient, error) { return s.conn.Watches.Watch(ctx) })
	if err != nil {
		return err
	}
	st.token = token
	st.add(w)
	s.mu.Lock()
	s.current = st
	s.mu.Unlock()
	s.work.Go(st.send)
	s.work.Go(st.receive)
	every := s.every
	s.work.Go(func() { st.supervise(s, every) })
	return nil
}

// forget makes the next watch open another stream than st, because there is reason to think that st hangs. The watches that st has notice
// that by themselves.
func (s *Streams) forget(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == st {
		s.current = nil
	}
}

// Wait blocks until all streams have ended. They end with their connection.
func (s *Streams) Wait() { s.work.Wait() }

// stream has watches, each with a number. It ends with the last of them, and if it breaks, all of them end.
//
// The client chooses the numbers. From etcd 3.4 on, the server uses them, so each answer names the request that it answers. etcd's own
// proxy (etcd grpc-proxy) numbers the watches itself instead, and answers requests in any order. So the first request of a stream is sent
// alone. If its answer has the chosen number, further requests are sent without waiting. Otherwise the stream always waits for an answer
// before it sends the next request.
type stream struct {
	rpc     pb.Watch_WatchClient
	cancel  context.CancelFunc
	token   string
	timeout time.Duration // in which a request for a watch must be answered
	late    atomic.Bool   // the stream was ended because an answer was late

	mu          sync.Mutex
	watches     map[int64]*Watch   // that were created, by number
	creating    []*Watch           // whose requests were sent and are not answered yet
	waiting     []*Watch           // whose requests were not sent yet
	ownNumbers  bool               // the server uses the numbers that the client chooses
	lastNumber  int64              // that the client chose
	cancelled   map[int64]bool     // numbers of watches whose end was requested and is not confirmed yet
	requests    []*pb.WatchRequest // to be sent
	probed      time.Time          // when progress was last requested
	open        int                // number of open watches
	queued      int                // the cost of the answers that the watches have not read yet, or whose revision is incomplete
	answerTimer *time.Timer        // ends the stream if a request for a watch is not answered; nil while none is sent
	ended       bool

	wake chan struct{} // has a token when there are requests, or the stream has ended
}

// firstNumber is one less than the first number that the client chooses. A server that chooses the numbers itself never reaches it.
const firstNumber = 1 << 32

func newStream(rpc pb.Watch_WatchClient, cancel context.CancelFunc, timeout time.Duration) *stream {
	return &stream{
		rpc: rpc, cancel: cancel, timeout: timeout, lastNumber: firstNumber,
		watches: map[int64]*Watch{}, cancelled: map[int64]bool{}, wake: make(chan struct{}, 1),
	}
}

// add adds w. It reports false if the stream has ended.
func (st *stream) add(w *Watch) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.ended {
		return false
	}
	w.stream = st
	st.open++
	st.waiting = append(st.waiting, w)
	st.create()
	return true
}

// create sends the requests that may be sent now. The caller has locked st.mu.
func (st *stream) create() {
	for len(st.waiting) > 0 && (st.ownNumbers || len(st.creating) == 0) {
		w := st.waiting[0]
		st.waiting = st.waiting[1:]
		if w.closed {
			continue
		}
		st.lastNumber++
		w.number = st.lastNumber
		st.creating = append(st.creating, w)
		st.request(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
			Key: []byte(w.key), RangeEnd: []byte(w.end), StartRevision: w.start, Fragment: true, WatchId: w.number,
		}}})
	}
	switch {
	case len(st.creating) == 0:
		st.stopTimer()
	case st.answerTimer == nil:
		oldest := st.creating[0].number
		st.answerTimer = time.AfterFunc(st.timeout, func() { st.unanswered(oldest) })
	}
}

// remove ends w. Later answers for it are dropped.
func (st *stream) remove(w *Watch) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if w.closed {
		return
	}
	w.closed = true
	st.drop(w)
	st.open--
	if st.open == 0 {
		st.end(nil)
		return
	}
	if w.created {
		st.cancelWatch(w)
	}
}

// drop drops the answers of w that are queued. The caller has locked st.mu.
func (st *stream) drop(w *Watch) {
	for _, a := range w.answers {
		st.queued -= costOf(a)
	}
	st.queued -= w.pending
	w.answers, w.pending = nil, 0
}

// costOf returns what an answer counts in stream.queued.
func costOf(a *pb.WatchResponse) int {
	n := conn.EntryCost
	for _, e := range a.Events {
		n += conn.Cost(e.Kv)
	}
	return n
}

// cancelWatch makes etcd end w. The caller has locked st.mu.
func (st *stream) cancelWatch(w *Watch) {
	if st.watches[w.number] != w {
		return // etcd has ended it
	}
	delete(st.watches, w.number)
	st.cancelled[w.number] = true
	st.request(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: w.number}}})
}

// probe requests progress, which etcd reports to every watch, unless it was requested within the pause. etcd answers at once, but not at
// all while a watch of the stream is not up to date.
func (st *stream) probe(pause time.Duration) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if now := time.Now(); now.Sub(st.probed) >= pause {
		st.probed = now
		st.request(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: new(pb.WatchProgressRequest)}})
	}
}

// request has r sent. The caller has locked st.mu.
func (st *stream) request(r *pb.WatchRequest) {
	st.requests = append(st.requests, r)
	st.wakeSender()
}

func (st *stream) wakeSender() {
	select {
	case st.wake <- struct{}{}:
	default:
	}
}

// send sends the requests. A member that hangs may block this goroutine, and no other.
func (st *stream) send() {
	for range st.wake {
		st.mu.Lock()
		requests, ended := st.requests, st.ended
		st.requests = nil
		st.mu.Unlock()
		if ended {
			return
		}
		for _, r := range requests {
			if st.rpc.Send(r) != nil {
				return // receive gets the reason
			}
		}
	}
}

// receive passes the answers to the watches until the stream ends.
func (st *stream) receive() {
	for {
		answer, err := st.rpc.Recv()
		st.mu.Lock()
		if err == nil {
			err = st.dispatch(answer)
		}
		if err != nil {
			st.end(err)
			st.mu.Unlock()
			return
		}
		st.mu.Unlock()
	}
}

// dispatch passes answer to its watch. An error means that the server has confused the watches, so that no answer about any of them can be
// used. The caller has locked st.mu.
func (st *stream) dispatch(answer *pb.WatchResponse) error {
	if answer.Created && len(st.creating) > 0 {
		return st.answered(answer)
	}
	if answer.WatchId == conn.EveryWatch {
		if answer.Created || answer.Canceled {
			return conn.Malformed("watch %d was created or ended", answer.WatchId)
		}
		for _, w := range st.watches {
			w.enqueue(answer)
		}
		return nil
	}
	w := st.watches[answer.WatchId]
	switch {
	case w == nil && st.cancelled[answer.WatchId]:
		if answer.Canceled {
			delete(st.cancelled, answer.WatchId)
		}
		return nil
	case w == nil:
		return conn.Malformed("there is no watch %d", answer.WatchId)
	}
	for _, e := range answer.Events {
		if !w.covers(e.Kv.Key) {
			return conn.Malformed("a watch got an event of key %q, which is not in its range", scrub.Line(string(e.Kv.Key)))
		}
	}
	w.enqueue(answer)
	switch {
	case answer.CompactRevision > 0:
		st.cancelWatch(w) // otherwise etcd keeps it, and reports no progress on the stream meanwhile
	case answer.Canceled:
		delete(st.watches, answer.WatchId)
	}
	return nil
}

// answered passes on the answer to a request for a watch. The caller has locked st.mu.
func (st *stream) answered(answer *pb.WatchResponse) error {
	i, err := st.answeredBy(answer)
	if err != nil {
		return err
	}
	w := st.creating[i]
	st.creating = slices.Delete(st.creating, i, i+1)
	st.ownNumbers = st.ownNumbers || answer.WatchId == w.number
	w.created, w.number = true, answer.WatchId
	if !answer.Canceled {
		st.watches[w.number] = w
	}
	st.stopTimer()
	st.create()
	if w.closed {
		st.cancelWatch(w)
		return nil
	}
	w.enqueue(answer)
	return nil
}

// answeredBy returns the index in creating of the watch that answer is about. The caller has locked st.mu.
func (st *stream) answeredBy(answer *pb.WatchResponse) (int, error) {
	if i := slices.IndexFunc(st.creating, func(w *Watch) bool { return w.number == answer.WatchId }); i >= 0 {
		return i, nil
	}
	_, exists := st.watches[answer.WatchId]
	switch {
	case answer.WatchId == conn.EveryWatch && answer.Canceled: // a refusal has no number, and etcd answers in order
		return 0, nil
	case st.ownNumbers, exists, st.cancelled[answer.WatchId], answer.WatchId == conn.EveryWatch:
		return 0, conn.Malformed("watch %d was created without a request", answer.WatchId)
	}
	return 0, nil // the only request that was sent
}

// stopTimer ends the wait for an answer. The caller has locked st.mu.
func (st *stream) stopTimer() {
	if st.answerTimer != nil {
		st.answerTimer.Stop()
		st.answerTimer = nil
	}
}

// unanswered ends the stream, unless the request for the watch with this number was answered meanwhile.
func (st *stream) unanswered(number int64) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.ended || len(st.creating) == 0 || st.creating[0].number != number {
		return
	}
	st.late.Store(true)
	st.end(conn.ErrLate)
}

// end ends the stream, and its watches with err. The caller has locked st.mu.
func (st *stream) end(err error) {
	if st.ended {
		return
	}
	st.ended = true
	st.stopTimer()
	st.cancel()
	st.wakeSender()
	for _, w := range st.watches {
		w.fail(err)
	}
	for _, w := range st.creating {
		w.fail(err)
	}
	for _, w := range st.waiting {
		w.fail(err)
	}
}
