package etcd

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/etcd/internal/conn"
	"github.com/rollcall-go/rollcall/etcd/internal/etcdtest"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// fake is an etcd that gives answers that a real one rarely gives.
type fake struct {
	pb.UnimplementedKVServer
	pb.UnimplementedWatchServer
	pb.UnimplementedLeaseServer

	mu       sync.Mutex
	revision int64
	entries  []*mvccpb.KeyValue
	readErr  error
	// answers are sent after the first request for a watch.
	answers  []*pb.WatchResponse
	streams  atomic.Int64 // of watches, that were opened
	progress int64        // the revision that it reports when progress is requested; 0: it reports none
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
	d := driverFor(t, Config{Endpoints: []string{listener.Addr().String()}, Timeout: watchtest.Timeout})
	t.Cleanup(func() { d.Close() })
	return d
}

func (f *fake) Range(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.readErr != nil {
		return nil, f.readErr
	}
	return &pb.RangeResponse{Header: etcdtest.Header(f.revision), Kvs: f.entries}, nil
}

func (f *fake) Watch(stream pb.Watch_WatchServer) error {
	f.streams.Add(1)
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
		if f.progress > 0 {
			if err := stream.Send(&pb.WatchResponse{WatchId: conn.EveryWatch, Header: etcdtest.Header(f.progress)}); err != nil {
				return err
			}
		}
	}
}

func (f *fake) watchService(t *testing.T) (*driver, registry.Source) {
	t.Helper()
	d := startFake(t, f)
	s := d.Watch(registry.Query{Service: "s"})
	t.Cleanup(func() { s.Close() })
	if _, err := s.Next(watchtest.Context(t)); err != nil {
		t.Fatal(err)
	}
	return d, s
}

// A watch for which etcd reports no progress, or an old revision, may have missed changes.
func TestSource_WatchHangs(t *testing.T) {
	for name, progress := range map[string]int64{"no progress": 0, "old progress": 7} {
		t.Run(name, func(t *testing.T) {
			f := &fake{revision: 7, progress: progress, answers: []*pb.WatchResponse{{Created: true, Header: etcdtest.Header(7)}}}
			d, s := f.watchService(t)
			before := s.(*source).watch
			f.mu.Lock()
			f.revision, f.entries = 8, []*mvccpb.KeyValue{etcdtest.Event("/rollcall/s/a", `{"address":"h:1"}`).Kv}
			f.mu.Unlock()
			d.conn.Timeout = 3 * time.Second
			before.CheckLiveness(t.Context())
			set, err := next(watchtest.Context(t), s)
			if err != nil || len(set) != 1 {
				t.Errorf("got %v, %v", ids(set), err)
			}
			watchtest.Eventually(t, "it uses another stream", func() bool { return f.streams.Load() == 2 })
		})
	}
}

// A store whose revision fell was wiped or restored, and the set is read again.
func TestSource_StoreIsRestored(t *testing.T) {
	f := &fake{revision: 7, answers: []*pb.WatchResponse{{Created: true, Header: etcdtest.Header(7)}}}
	_, s := f.watchService(t)
	f.mu.Lock()
	f.revision, f.entries = 3, []*mvccpb.KeyValue{etcdtest.Event("/rollcall/s/a", `{"address":"h:1"}`).Kv}
	f.mu.Unlock()
	s.(*source).watch.CheckLiveness(t.Context())
	_, err := s.Next(watchtest.Context(t))
	wantKind(t, err, registry.ErrUnavailable)
	if set, err := next(watchtest.Context(t), s); err != nil || len(set) != 1 {
		t.Errorf("got %v, %v", ids(set), err)
	}
}

func TestSource_WatchIsEnded(t *testing.T) {
	created := &pb.WatchResponse{Created: true, Header: etcdtest.Header(7)}
	for name, c := range map[string]struct {
		answer *pb.WatchResponse
		want   error
	}{
		"compacted":     {&pb.WatchResponse{Canceled: true, CompactRevision: 9, Header: etcdtest.Header(9)}, registry.ErrUnavailable},
		"cancelled":     {&pb.WatchResponse{Canceled: true, Header: etcdtest.Header(9)}, registry.ErrUnavailable},
		"denied":        {&pb.WatchResponse{Created: true, Canceled: true, CancelReason: rpctypes.ErrGRPCPermissionDenied.Error()}, registry.ErrDenied},
		"token ran out": {&pb.WatchResponse{Created: true, Canceled: true, CancelReason: rpctypes.ErrGRPCInvalidAuthToken.Error()}, registry.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			_, s := (&fake{revision: 7, answers: []*pb.WatchResponse{created, c.answer}}).watchService(t)
			_, err := s.Next(watchtest.Context(t))
			wantKind(t, err, c.want)
			if _, err := s.Next(watchtest.Context(t)); err != nil {
				t.Errorf("the next call: %v", err)
			}
		})
	}
}

// An answer with an earlier revision comes from a restored store, or from a member that is behind.
func TestSource_EarlierRevision(t *testing.T) {
	f := &fake{revision: 7, answers: []*pb.WatchResponse{
		{Created: true, Header: etcdtest.Header(5)},
		{Header: etcdtest.Header(8), Events: []*mvccpb.Event{etcdtest.Event("/rollcall/s/a", `{"address":"h:1"}`)}},
	}}
	_, s := f.watchService(t)
	set, err := next(watchtest.Context(t), s)
	if err != nil || len(set) != 1 {
		t.Errorf("a member that is behind: %v, %v", ids(set), err)
	}

	_, s = f.watchService(t)
	f.mu.Lock()
	f.revision = 3
	f.mu.Unlock()
	_, err = s.Next(watchtest.Context(t))
	wantKind(t, err, registry.ErrUnavailable)
}

// The set never has half of the changes of a revision.
func TestSource_FragmentsMakeOneSet(t *testing.T) {
	f := &fake{revision: 7, answers: []*pb.WatchResponse{
		{Created: true, Header: etcdtest.Header(7)},
		{Fragment: true, Header: etcdtest.Header(8), Events: []*mvccpb.Event{etcdtest.Event("/rollcall/s/b", `{"address":"h:1"}`)}},
		{Fragment: true, Header: etcdtest.Header(8), Events: []*mvccpb.Event{etcdtest.Event("/rollcall/s/a", `{"address":"h:1"}`)}},
		{Header: etcdtest.Header(8), Events: []*mvccpb.Event{etcdtest.Event("/rollcall/s/c", `{"address":"h:1"}`)}},
	}}
	_, s := f.watchService(t)
	set, err := next(watchtest.Context(t), s)
	if err != nil || len(set) != 3 {
		t.Errorf("got %v, %v", ids(set), err)
	}
}

func TestServices_KindsOfErrors(t *testing.T) {
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
		{status.Error(codes.Unimplemented, "not an etcd"), registry.ErrUnavailable},
		{status.Error(codes.DeadlineExceeded, "the server's own"), registry.ErrUnavailable},
		{status.Error(codes.Canceled, "the server's own"), registry.ErrUnavailable},
	} {
		d := startFake(t, &fake{readErr: c.answer})
		_, err := d.Services(watchtest.Context(t))
		wantKind(t, err, c.want)
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			t.Errorf("%v looks like the error of the caller's context", err)
		}
	}
}

// If no answer comes, the driver's timeout ends the call, which is not the deadline of the caller.
func TestServices_OwnTimeoutIsNotTheDeadlineOfTheCaller(t *testing.T) {
	f := new(fake)
	d := startFake(t, f)
	d.conn.Timeout = 200 * time.Millisecond
	f.mu.Lock()
	_, err := d.Services(watchtest.Context(t))
	short, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	_, own := d.Services(short)
	f.mu.Unlock()
	wantKind(t, err, registry.ErrUnavailable)
	if errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v looks like the error of the caller's context", err)
	}
	if !errors.Is(own, context.DeadlineExceeded) || errors.Is(own, registry.ErrUnavailable) || !strings.Contains(own.Error(), "list services") {
		t.Errorf("the error of the caller's context is %v", own)
	}
}
