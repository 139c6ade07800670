package etcd

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"

	"github.com/rollcall-go/rollcall/etcd/internal/conn"
	"github.com/rollcall-go/rollcall/internal/watchtest"
)

// scripted is an etcd that does what this package needs: it lists, writes, watches and grants leases. A script can change its answers.
type scripted struct {
	pb.UnimplementedKVServer
	pb.UnimplementedWatchServer
	pb.UnimplementedLeaseServer

	addr   string
	server *grpc.Server

	mu        sync.Mutex
	clusterID uint64
	revision  int64
	entries   map[string]*mvccpb.KeyValue
	leases    map[int64]bool
	streams   map[*scriptedStream]bool
	bend      bend
	bends     int                     // answers that the script has changed
	calls     map[string]int          // by name
	delay     func(name string)       // is called before each call is answered, unless it is nil
	fail      func(name string) error // the error that a call returns after it was carried out, unless it is nil
}

// bend replaces an answer by others: a call gets the first one, a stream all. A nil result leaves the answer as it is.
type bend func(request, answer any) []any

func startScripted(t testing.TB) *scripted { return startScriptedAt(t, "127.0.0.1:0") }

func startScriptedAt(t testing.TB, address string) *scripted {
	t.Helper()
	f := &scripted{clusterID: 1, revision: 7, entries: map[string]*mvccpb.KeyValue{}, leases: map[int64]bool{}, streams: map[*scriptedStream]bool{}, calls: map[string]int{}}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	f.addr, f.server = listener.Addr().String(), grpc.NewServer(grpc.MaxSendMsgSize(1<<30))
	pb.RegisterKVServer(f.server, f)
	pb.RegisterWatchServer(f.server, f)
	pb.RegisterLeaseServer(f.server, f)
	var work sync.WaitGroup
	work.Go(func() { f.server.Serve(listener) })
	t.Cleanup(func() { f.server.Stop(); work.Wait() })
	return f
}

func (f *scripted) header() *pb.ResponseHeader {
	return &pb.ResponseHeader{ClusterId: f.clusterID, MemberId: 1, Revision: f.revision}
}

// bent returns the answers of the script.
func (f *scripted) bent(request, answer any) []any {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.bend != nil {
		if all := f.bend(request, answer); all != nil {
			f.bends++
			return all
		}
	}
	return []any{answer}
}

// behave sets the script, and ends the streams, so that watches start anew with it. With nil, answers are correct.
func (f *scripted) behave(b bend) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bend = b
	for s := range f.streams {
		s.cancel()
	}
}

// watched waits until a watch was created.
func (f *scripted) watched(t testing.TB) {
	t.Helper()
	watchtest.Eventually(t, "a watch was created", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		for s := range f.streams {
			if len(s.watches) > 0 {
				return true
			}
		}
		return false
	})
}

// played waits until the script has changed n more answers.
func (f *scripted) played(t testing.TB, n int) {
	t.Helper()
	f.mu.Lock()
	n += f.bends
	f.mu.Unlock()
	watchtest.Eventually(t, "the script has changed answers", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.bends >= n
	})
}

// count counts a call, and calls delay.
func (f *scripted) count(name string) {
	f.mu.Lock()
	f.calls[name]++
	delay := f.delay
	f.mu.Unlock()
	if delay != nil {
		delay(name)
	}
}

// failed returns the error of a call that was carried out.
func (f *scripted) failed(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail == nil {
		return nil
	}
	return f.fail(name)
}

func (f *scripted) called(name string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[name]
}

func (f *scripted) put(key, value string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.write(&mvccpb.KeyValue{Key: []byte(key), Value: []byte(value)})
}

// write stores kv, or deletes its key if it has no value. The caller has locked f.mu.
func (f *scripted) write(kv *mvccpb.KeyValue) {
	f.revision++
	kv.ModRevision = f.revision
	if len(kv.Value) == 0 {
		kv.Value = nil
	}
	e := &mvccpb.Event{Type: mvccpb.Event_PUT, Kv: kv}
	if kv.Value == nil {
		e.Type = mvccpb.Event_DELETE
		delete(f.entries, string(kv.Key))
	} else {
		f.entries[string(kv.Key)] = kv
	}
	for s := range f.streams {
		s.tell(e)
	}
}

func (f *scripted) Range(_ context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	f.count("Range")
	f.mu.Lock()
	answer := f.find(r)
	answer.Header = f.header()
	f.mu.Unlock()
	bent, _ := f.bent(r, answer)[0].(*pb.RangeResponse)
	return bent, nil
}

// find returns the answer to a read, without its header. The caller has locked f.mu.
func (f *scripted) find(r *pb.RangeRequest) *pb.RangeResponse {
	answer := new(pb.RangeResponse)
	for key, kv := range f.entries {
		if conn.InRange([]byte(key), r.Key, r.RangeEnd) {
			answer.Kvs = append(answer.Kvs, kv)
		}
	}
	slices.SortFunc(answer.Kvs, func(a, b *mvccpb.KeyValue) int { return strings.Compare(string(a.Key), string(b.Key)) })
	if answer.Count = int64(len(answer.Kvs)); r.CountOnly {
		answer.Kvs = nil
	}
	if r.Limit > 0 && int64(len(answer.Kvs)) > r.Limit {
		answer.Kvs, answer.More = answer.Kvs[:r.Limit], true
	}
	if r.KeysOnly {
		for i, kv := range answer.Kvs {
			answer.Kvs[i] = &mvccpb.KeyValue{Key: kv.Key, ModRevision: kv.ModRevision, Lease: kv.Lease}
		}
	}
	return answer
}

func (f *scripted) Txn(_ context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	f.count("Txn")
	f.mu.Lock()
	answer := &pb.TxnResponse{Succeeded: true}
	for _, c := range r.Compare {
		answer.Succeeded = answer.Succeeded && f.isTrue(c)
	}
	operations := r.Failure
	if answer.Succeeded {
		operations = r.Success
	}
	for _, o := range operations {
		var part pb.ResponseOp
		if p := o.GetRequestPut(); p != nil {
			if !f.leases[p.Lease] {
				f.mu.Unlock()
				return nil, rpctypes.ErrGRPCLeaseNotFound
			}
			f.write(&mvccpb.KeyValue{Key: p.Key, Value: p.Value, Lease: p.Lease})
			part.Response = &pb.ResponseOp_ResponsePut{ResponsePut: &pb.PutResponse{}}
		} else {
			part.Response = &pb.ResponseOp_ResponseRange{ResponseRange: f.find(o.GetRequestRange())}
		}
		answer.Responses = append(answer.Responses, &part)
	}
	answer.Header = f.header()
	f.mu.Unlock()
	return f.bent(r, answer)[0].(*pb.TxnResponse), f.failed("Txn")
}

// isTrue reports whether a condition is true. The caller has locked f.mu.
func (f *scripted) isTrue(c *pb.Compare) bool {
	kv := f.entries[string(c.Key)]
	switch c.Target {
	case pb.Compare_MOD:
		return kv.GetModRevision() < c.GetModRevision()
	case pb.Compare_LEASE:
		return kv.GetLease() == c.GetLease()
	}
	return string(kv.GetValue()) == string(c.GetValue())
}

func (f *scripted) LeaseGrant(_ context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	f.count("LeaseGrant")
	f.mu.Lock()
	id := r.ID
	if id == 0 {
		id = int64(len(f.leases) + 1)
	}
	if f.leases[id] {
		f.mu.Unlock()
		return nil, rpctypes.ErrGRPCLeaseExist
	}
	f.leases[id] = true
	answer := &pb.LeaseGrantResponse{Header: f.header(), ID: id, TTL: r.TTL}
	f.mu.Unlock()
	return f.bent(r, answer)[0].(*pb.LeaseGrantResponse), f.failed("LeaseGrant")
}

func (f *scripted) LeaseRevoke(_ context.Context, r *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
	f.count("LeaseRevoke")
	f.mu.Lock()
	if !f.leases[r.ID] {
		f.mu.Unlock()
		return nil, rpctypes.ErrGRPCLeaseNotFound
	}
	delete(f.leases, r.ID)
	for key, kv := range f.entries {
		if kv.Lease == r.ID {
			f.write(&mvccpb.KeyValue{Key: []byte(key)})
		}
	}
	answer := &pb.LeaseRevokeResponse{Header: f.header()}
	f.mu.Unlock()
	return f.bent(r, answer)[0].(*pb.LeaseRevokeResponse), f.failed("LeaseRevoke")
}

func (f *scripted) LeaseKeepAlive(stream pb.Lease_LeaseKeepAliveServer) error {
	for {
		r, err := stream.Recv()
		if err != nil {
			return err
		}
		f.count("LeaseKeepAlive")
		f.mu.Lock()
		answer := &pb.LeaseKeepAliveResponse{Header: f.header(), ID: r.ID}
		if f.leases[r.ID] {
			answer.TTL = 15
		}
		f.mu.Unlock()
		for _, a := range f.bent(r, answer) {
			if err := stream.Send(a.(*pb.LeaseKeepAliveResponse)); err != nil {
				return err
			}
		}
	}
}

// scriptedStream is a stream of watches.
type scriptedStream struct {
	cancel  context.CancelFunc
	watches map[int64]*pb.WatchCreateRequest
	events  chan *pb.WatchResponse
	f       *scripted
}

// tell sends an event to the watches whose range has its key. The caller has locked f.mu.
func (s *scriptedStream) tell(e *mvccpb.Event) {
	for id, w := range s.watches {
		if conn.InRange(e.Kv.Key, w.Key, w.RangeEnd) {
			s.events <- &pb.WatchResponse{Header: s.f.header(), WatchId: id, Events: []*mvccpb.Event{e}}
		}
	}
}

func (f *scripted) Watch(stream pb.Watch_WatchServer) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	s := &scriptedStream{cancel: cancel, watches: map[int64]*pb.WatchCreateRequest{}, events: make(chan *pb.WatchResponse, 1<<10), f: f}
	f.mu.Lock()
	f.streams[s] = true
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.streams, s)
		f.mu.Unlock()
	}()
	go s.receive(stream, cancel) // it ends with the stream
	for {
		select {
		case answer := <-s.events:
			for _, a := range f.bent(nil, answer) {
				if err := stream.Send(a.(*pb.WatchResponse)); err != nil {
					return err
				}
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *scriptedStream) receive(stream pb.Watch_WatchServer, cancel context.CancelFunc) {
	defer cancel()
	for {
		r, err := stream.Recv()
		if err != nil {
			return
		}
		s.f.mu.Lock()
		answer := &pb.WatchResponse{Header: s.f.header(), WatchId: conn.EveryWatch}
		if c := r.GetCreateRequest(); c != nil {
			s.watches[c.WatchId] = c
			answer.WatchId, answer.Created = c.WatchId, true
		}
		if c := r.GetCancelRequest(); c != nil {
			delete(s.watches, c.WatchId)
			answer.WatchId, answer.Canceled = c.WatchId, true
		}
		s.f.mu.Unlock()
		s.events <- answer
	}
}
