package etcd

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/registry"
)

// fake is an etcd that does what a real one does only in bad moments.
type fake struct {
	pb.UnimplementedKVServer
	pb.UnimplementedWatchServer
	pb.UnimplementedLeaseServer

	mu       sync.Mutex
	revision int64
	entries  []*mvccpb.KeyValue
	readErr  error
	// answers are what a watch says, after which it is silent; they come after the request.
	answers []*pb.WatchResponse
	alive   int64 // the revision of its signs of life; without one it gives none
}

func startFake(t *testing.T, f *fake) *driver {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	pb.RegisterKVServer(srv, f)
	pb.RegisterWatchServer(srv, f)
	pb.RegisterLeaseServer(srv, f)
	var work sync.WaitGroup
	work.Go(func() { srv.Serve(listener) })
	t.Cleanup(func() { srv.Stop(); work.Wait() })
	d := driverFor(t, Config{Endpoints: []string{listener.Addr().String()}, Timeout: patience})
	t.Cleanup(func() { d.Close() })
	return d
}

func (f *fake) Range(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.readErr != nil {
		return nil, f.readErr
	}
	return &pb.RangeResponse{Header: header(f.revision), Kvs: f.entries}, nil
}

func (f *fake) Watch(stream pb.Watch_WatchServer) error {
	if _, err := stream.Recv(); err != nil {
		return err
	}
	for _, a := range f.answers {
		if err := stream.Send(a); err != nil {
			return err
		}
	}
	for {
		if _, err := stream.Recv(); err != nil {
			return err
		}
		if f.alive > 0 {
			if err := stream.Send(&pb.WatchResponse{WatchId: everyWatch, Header: header(f.alive)}); err != nil {
				return err
			}
		}
	}
}

func header(revision int64) *pb.ResponseHeader { return &pb.ResponseHeader{Revision: revision} }

func event(key, value string) *mvccpb.Event {
	return &mvccpb.Event{Type: mvccpb.Event_PUT, Kv: &mvccpb.KeyValue{Key: []byte(key), Value: []byte(value)}}
}

func (f *fake) follow(t *testing.T) (*driver, registry.Source) {
	t.Helper()
	d := startFake(t, f)
	s := d.Follow(registry.Query{Service: "s"})
	t.Cleanup(func() { s.Close() })
	if _, err := s.Next(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	return d, s
}

// A watch that gives no sign of life, or one of a time that is past, may have missed something.
func TestAWatchThatHangs(t *testing.T) {
	for name, alive := range map[string]int64{"silent": 0, "stuck": 7} {
		t.Run(name, func(t *testing.T) {
			f := &fake{revision: 7, alive: alive, answers: []*pb.WatchResponse{{Created: true, Header: header(7)}}}
			d, s := f.follow(t)
			before := s.(*source).watch
			f.mu.Lock()
			f.revision, f.entries = 8, []*mvccpb.KeyValue{event("/rollcall/s/a", `{"address":"h:1"}`).Kv}
			f.mu.Unlock()
			d.settings.Timeout = 3 * time.Second
			before.stream.look(t.Context(), d)
			set, err := s.Next(within(t, patience))
			if err != nil || len(set) != 1 {
				t.Errorf("got %v, %v", ids(set), err)
			}
			if s.(*source).watch.stream == before.stream {
				t.Error("it goes on with the stream that hangs")
			}
		})
	}
}

func TestHowAWatchEnds(t *testing.T) {
	created := &pb.WatchResponse{Created: true, Header: header(7)}
	for name, c := range map[string]struct {
		answer *pb.WatchResponse
		want   error
	}{
		"compacted":     {&pb.WatchResponse{Canceled: true, CompactRevision: 9, Header: header(9)}, registry.ErrUnavailable},
		"cancelled":     {&pb.WatchResponse{Canceled: true, Header: header(9)}, registry.ErrUnavailable},
		"denied":        {&pb.WatchResponse{Created: true, Canceled: true, CancelReason: rpctypes.ErrGRPCPermissionDenied.Error()}, registry.ErrDenied},
		"token ran out": {&pb.WatchResponse{Created: true, Canceled: true, CancelReason: rpctypes.ErrGRPCInvalidAuthToken.Error()}, registry.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			_, s := (&fake{revision: 7, answers: []*pb.WatchResponse{created, c.answer}}).follow(t)
			_, err := s.Next(within(t, patience))
			wantKind(t, err, c.want)
			if _, err := s.Next(within(t, patience)); err != nil {
				t.Errorf("afresh: %v", err)
			}
		})
	}
}

// An answer at an earlier revision comes from another store, or from a member that is behind the one that was read.
func TestAnEarlierRevision(t *testing.T) {
	f := &fake{revision: 7, answers: []*pb.WatchResponse{
		{Created: true, Header: header(5)},
		{Header: header(8), Events: []*mvccpb.Event{event("/rollcall/s/a", `{"address":"h:1"}`)}},
	}}
	_, s := f.follow(t)
	set, err := s.Next(within(t, patience))
	if err != nil || len(set) != 1 {
		t.Errorf("a member that is behind: %v, %v", ids(set), err)
	}

	_, s = f.follow(t)
	f.mu.Lock()
	f.revision = 3
	f.mu.Unlock()
	_, err = s.Next(within(t, patience))
	wantKind(t, err, registry.ErrUnavailable)
}

// A set of half a revision is not one.
func TestFragmentsMakeOneSet(t *testing.T) {
	f := &fake{revision: 7, answers: []*pb.WatchResponse{
		{Created: true, Header: header(7)},
		{Fragment: true, Header: header(8), Events: []*mvccpb.Event{event("/rollcall/s/b", `{"address":"h:1"}`)}},
		{Fragment: true, Header: header(8), Events: []*mvccpb.Event{event("/rollcall/s/a", `{"address":"h:1"}`)}},
		{Header: header(8), Events: []*mvccpb.Event{event("/rollcall/s/c", `{"address":"h:1"}`)}},
	}}
	_, s := f.follow(t)
	set, err := s.Next(within(t, patience))
	if err != nil || len(set) != 3 {
		t.Errorf("got %v, %v", ids(set), err)
	}
}

func TestKindsOfErrors(t *testing.T) {
	for _, c := range []struct {
		answer error
		want   error
	}{
		{rpctypes.ErrGRPCPermissionDenied, registry.ErrDenied},
		{rpctypes.ErrGRPCAuthFailed, registry.ErrDenied},
		{rpctypes.ErrGRPCUserEmpty, registry.ErrDenied},
		{status.Error(codes.Unauthenticated, "a proxy wants to know who it is"), registry.ErrDenied},
		{rpctypes.ErrGRPCInvalidAuthToken, registry.ErrUnavailable},
		{rpctypes.ErrGRPCAuthOldRevision, registry.ErrUnavailable},
		{rpctypes.ErrGRPCRequestTooLarge, registry.ErrInvalid},
		{rpctypes.ErrGRPCNoSpace, registry.ErrUnavailable},
		{rpctypes.ErrGRPCRequestTooManyRequests, registry.ErrUnavailable},
		{rpctypes.ErrGRPCNoLeader, registry.ErrUnavailable},
		{rpctypes.ErrGRPCCompacted, registry.ErrUnavailable},
		{rpctypes.ErrGRPCFutureRev, registry.ErrUnavailable},
		{rpctypes.ErrGRPCCorrupt, registry.ErrUnavailable},
		{status.Error(codes.Unimplemented, "no etcd at all"), registry.ErrUnavailable},
		{status.Error(codes.DeadlineExceeded, "the server's own"), registry.ErrUnavailable},
		{status.Error(codes.Canceled, "the server's own"), registry.ErrUnavailable},
	} {
		d := startFake(t, &fake{readErr: c.answer})
		_, err := d.Services(within(t, patience))
		wantKind(t, err, c.want)
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			t.Errorf("%v looks like the caller's own", err)
		}
	}
}

// An answer that never comes ends with the driver's own limit, which is not the caller's.
func TestItsOwnDeadlineIsNotTheCallers(t *testing.T) {
	f := new(fake)
	d := startFake(t, f)
	d.settings.Timeout = 200 * time.Millisecond
	f.mu.Lock()
	_, err := d.Services(within(t, patience))
	short, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	_, own := d.Services(short)
	f.mu.Unlock()
	wantKind(t, err, registry.ErrUnavailable)
	if errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v looks like the caller's own", err)
	}
	if own != context.DeadlineExceeded {
		t.Errorf("the caller's own is %v", own)
	}
}
