package grpcx_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/test/bufconn"

	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// network is the network of a bubble: gRPC servers at addresses, reached without sockets, so that time is the bubble's.
type network struct {
	*testing.T
	*script

	mu    sync.Mutex
	nodes map[string]*node
	dials map[string]int // by address, of servers that are there or not
	hangs bool           // a server that is away does not refuse
}

// node is one server in the network.
type node struct {
	testpb.UnimplementedTestServiceServer
	address string
	gs      *grpc.Server
	lis     *bufconn.Listener
	work    sync.WaitGroup
	calls   atomic.Int64
	handle  func(context.Context) error // may be nil
}

func inANetwork(t *testing.T, test func(*network)) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		n := &network{T: t, script: newScript(), nodes: map[string]*node{}, dials: map[string]int{}}
		n.asked = make(chan registry.Query, 1000)
		test(n)
	})
}

// listen starts a server at address, which lives until it is stopped or the test ends.
func (n *network) listen(address string) *node { return n.listenWith(address, func(*grpc.Server) {}) }

// listenWith is listen for a server with further services.
func (n *network) listenWith(address string, register func(*grpc.Server)) *node {
	s := &node{address: address, gs: grpc.NewServer(), lis: bufconn.Listen(1 << 20)}
	testpb.RegisterTestServiceServer(s.gs, s)
	register(s.gs)
	n.mu.Lock()
	n.nodes[address] = s
	n.mu.Unlock()
	s.work.Go(func() { s.gs.Serve(s.lis) })
	n.Cleanup(func() { n.crash(s) })
	return s
}

// crash breaks all connections to a server.
func (n *network) crash(s *node) { n.end(s, s.gs.Stop) }

// leave lets a server finish what it is at.
func (n *network) leave(s *node) { n.end(s, s.gs.GracefulStop) }

func (n *network) end(s *node, stop func()) {
	n.mu.Lock()
	if n.nodes[s.address] == s {
		delete(n.nodes, s.address)
	}
	n.mu.Unlock()
	stop()
	s.work.Wait()
	synctest.Wait()
}

func (n *network) dial(ctx context.Context, address string) (net.Conn, error) {
	n.mu.Lock()
	n.dials[address]++
	s, hangs := n.nodes[address], n.hangs
	n.mu.Unlock()
	if s == nil && hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if s == nil {
		return nil, errors.New("connection refused")
	}
	return s.lis.DialContext(ctx)
}

// dialled returns how often an address was dialled.
func (n *network) dialled(address string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dials[address]
}

// client returns a channel of NewClient.
func (n *network) client(target string, opts ...grpc.DialOption) *grpc.ClientConn {
	n.Helper()
	conn, err := grpcx.NewClient(target, n.script, append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(n.dial),
	}, opts...)...)
	if err != nil {
		n.Fatal(err)
	}
	n.Cleanup(func() { conn.Close() })
	conn.Connect()
	return conn
}

// says lets the registry say something, and waits until the channel has dealt with it.
func (n *network) says(err error, set ...*registry.Instance) {
	n.pairs <- said{set, err}
	synctest.Wait()
}

// call makes calls, and returns how many failed.
func (n *network) call(cc grpc.ClientConnInterface, count int) (failed int, last error) {
	for range count {
		ctx, cancel := context.WithTimeout(context.Background(), watchtest.Timeout) // of the bubble's time
		if _, err := testpb.NewTestServiceClient(cc).EmptyCall(ctx, new(testpb.Empty)); err != nil {
			failed, last = failed+1, err
		}
		cancel()
	}
	return failed, last
}

// wantNoCalls reports an error for each server that got a call. They belong to other services, at addresses of former instances.
func (n *network) wantNoCalls(others []*node) {
	n.Helper()
	for _, o := range others {
		if o.calls.Load() > 0 {
			n.Errorf("the other service at %s got %d calls", o.address, o.calls.Load())
		}
	}
}

func (s *node) EmptyCall(ctx context.Context, _ *testpb.Empty) (*testpb.Empty, error) {
	s.calls.Add(1)
	if s.handle != nil {
		if err := s.handle(ctx); err != nil {
			return nil, err
		}
	}
	return new(testpb.Empty), nil
}

// at returns the instance of a server.
func at(s *node, status registry.Status) *registry.Instance {
	return &registry.Instance{ID: "at-" + s.address, Service: service, Address: s.address, Weight: 1, Status: status}
}

// with returns copies of set with a status.
func with(status registry.Status, set ...*registry.Instance) []*registry.Instance {
	out := make([]*registry.Instance, len(set))
	for i, in := range set {
		out[i] = in.Clone()
		out[i].Status = status
	}
	return out
}

// address returns the i-th address of a network.
func addressIn(i int) string { return fmt.Sprintf("10.0.0.%d:80", i+1) }
