package watch

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/rollcall-go/rollcall/etcd/internal/conn"
	"github.com/rollcall-go/rollcall/etcd/internal/etcdtest"
	"github.com/rollcall-go/rollcall/etcd/internal/format"
)

const prefix = "/rollcall/"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connect returns a connection and its streams, which are closed with the test.
func connect(t testing.TB, address string, o ...grpc.DialOption) (*conn.Conn, *Streams) {
	t.Helper()
	c, err := conn.New(conn.Config{Members: []string{address}, DialTimeout: 5 * time.Second, Timeout: 5 * time.Second}, o...)
	if err != nil {
		t.Fatal(err)
	}
	streams := New(c)
	t.Cleanup(func() {
		c.Close()
		streams.Wait()
	})
	return c, streams
}

// reader reads all keys of a service, and then only changes, as the source of the driver does.
type reader struct {
	streams *Streams
	service string
	prefix  string
	watch   *Watch          // nil if the next call reads all keys
	keys    map[string]bool // that exist
}

func newReader(s *Streams, service string) *reader {
	return &reader{streams: s, service: service, prefix: prefix + service + "/"}
}

func (r *reader) close() {
	if r.watch != nil {
		r.watch.Close()
		r.watch = nil
	}
}

// next blocks until the keys have changed, except for the first time, and returns their number.
func (r *reader) next(ctx context.Context) (int, error) {
	read := r.changed
	if r.watch == nil {
		read = r.readAll
	}
	err := read(ctx)
	if err != nil && r.watch != nil {
		if ctx.Err() != nil {
			r.watch.Close()
		} else {
			r.watch.Abandon()
		}
		r.watch = nil
	}
	return len(r.keys), err
}

func (r *reader) readAll(ctx context.Context) error {
	end := format.PrefixEnd(r.prefix)
	page, err := r.streams.conn.Read(ctx, "read "+r.service, &pb.RangeRequest{Key: []byte(r.prefix), RangeEnd: []byte(end)})
	if err != nil {
		return err
	}
	if r.watch, err = r.streams.Watch(ctx, "watch "+r.service, r.prefix, end, page.Header.Revision+1); err != nil {
		return err
	}
	r.watch.Supervise()
	r.keys = map[string]bool{}
	for _, kv := range page.Kvs {
		r.keys[string(kv.Key)] = true
	}
	return nil
}

func (r *reader) changed(ctx context.Context) error {
	for {
		changes, missed, err := r.watch.Receive(ctx)
		if err != nil {
			return err
		}
		if missed {
			r.watch.Abandon()
			r.watch = nil
			return r.readAll(ctx)
		}
		r.apply(changes)
		if len(changes) > 0 {
			return nil
		}
	}
}

func (r *reader) apply(changes []*mvccpb.Event) {
	for _, e := range changes {
		if e.Type == mvccpb.Event_DELETE {
			delete(r.keys, string(e.Kv.Key))
		} else {
			r.keys[string(e.Kv.Key)] = true
		}
	}
}

// unresponsive is an etcd at one revision, which answers no request for a watch.
type unresponsive struct {
	pb.UnimplementedKVServer
	pb.UnimplementedWatchServer
	revision int64
}

// startUnresponsive starts an etcd that answers no request for a watch, and returns its address.
func startUnresponsive(t *testing.T, revision int64) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &unresponsive{revision: revision}
	server := grpc.NewServer()
	pb.RegisterKVServer(server, f)
	pb.RegisterWatchServer(server, f)
	var work sync.WaitGroup
	work.Go(func() { server.Serve(listener) })
	t.Cleanup(func() { server.Stop(); work.Wait() })
	return listener.Addr().String()
}

func (f *unresponsive) Range(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error) {
	return &pb.RangeResponse{Header: etcdtest.Header(f.revision)}, nil
}

func (f *unresponsive) Watch(stream pb.Watch_WatchServer) error {
	for {
		if _, err := stream.Recv(); err != nil {
			return err
		}
	}
}
