package grpcx_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/peer"

	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

func TestMain(m *testing.M) {
	if target := os.Getenv(proxyTest); target != "" {
		os.Exit(behindProxy(target))
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil)))
	goleak.VerifyTestMain(m)
}

// backend is a gRPC server on loopback that counts its calls.
type backend struct {
	testpb.UnimplementedTestServiceServer
	gs      *grpc.Server
	lis     *countingListener
	calls   atomic.Int64
	streams atomic.Int64 // open now
}

type countingListener struct {
	net.Listener
	accepted atomic.Int64
}

func (l *countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.accepted.Add(1)
	}
	return c, err
}

// newBackend returns a backend that listens and does not serve yet.
func newBackend(t *testing.T) *backend {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{gs: grpc.NewServer(), lis: &countingListener{Listener: lis}}
	testpb.RegisterTestServiceServer(b.gs, b)
	t.Cleanup(func() { b.gs.Stop(); lis.Close() })
	return b
}

// serve serves without registering.
func (b *backend) serve(t *testing.T) *backend {
	var work sync.WaitGroup
	work.Go(func() { b.gs.Serve(b.lis) })
	t.Cleanup(func() { b.gs.Stop(); work.Wait() })
	return b
}

func (b *backend) address() string { return b.lis.Addr().String() }

func (b *backend) EmptyCall(context.Context, *testpb.Empty) (*testpb.Empty, error) {
	b.calls.Add(1)
	return new(testpb.Empty), nil
}

// FullDuplexCall stays open until the client or the server ends it.
func (b *backend) FullDuplexCall(s grpc.BidiStreamingServer[testpb.StreamingOutputCallRequest, testpb.StreamingOutputCallResponse]) error {
	b.streams.Add(1)
	defer b.streams.Add(-1)
	if err := s.Send(new(testpb.StreamingOutputCallResponse)); err != nil {
		return err
	}
	for {
		if _, err := s.Recv(); err != nil {
			return nil
		}
	}
}

const service = "backend"

// registerAddress registers an instance with an address.
func registerAddress(t *testing.T, r registry.Registrar, address string) registry.Registration {
	t.Helper()
	g, err := r.Register(watchtest.Context(t), registry.Instance{Service: service, Address: address})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func newStore(t *testing.T) *memory.Registry {
	r := memory.New()
	t.Cleanup(func() { r.Close() })
	return r
}

func dial(t *testing.T, target string, d registry.Discovery, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpcx.NewClient(target, d, append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// call makes one call and returns the address that answered.
func call(ctx context.Context, cc grpc.ClientConnInterface, opts ...grpc.CallOption) (string, error) {
	var p peer.Peer
	_, err := testpb.NewTestServiceClient(cc).EmptyCall(ctx, new(testpb.Empty), append(opts, grpc.Peer(&p))...)
	if err != nil {
		return "", err
	}
	return p.Addr.String(), nil
}

// answers makes calls until each of the addresses has answered. It fails the test if a call fails.
func answers(t *testing.T, cc grpc.ClientConnInterface, addresses ...string) {
	t.Helper()
	missing := map[string]bool{}
	for _, a := range addresses {
		missing[a] = true
	}
	watchtest.Eventually(t, "all backends to answer", func() bool {
		who, err := call(watchtest.Context(t), cc, grpc.WaitForReady(true))
		if err != nil {
			t.Fatal(err)
		}
		delete(missing, who)
		return len(missing) == 0
	})
}
