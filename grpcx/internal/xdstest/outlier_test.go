package xdstest

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	experimental "google.golang.org/grpc/experimental/stats"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	_ "google.golang.org/grpc/xds" // outlier_detection_experimental

	"github.com/rollcall-go/rollcall/grpcx"
	_ "github.com/rollcall-go/rollcall/grpcx/weighted"
	_ "github.com/rollcall-go/rollcall/grpcx/zone"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server answers, or fails while it is broken.
type server struct {
	testpb.UnimplementedTestServiceServer
	broken atomic.Bool
	calls  atomic.Int64
}

func (s *server) EmptyCall(context.Context, *testpb.Empty) (*testpb.Empty, error) {
	s.calls.Add(1)
	if s.broken.Load() {
		return nil, status.Error(codes.Internal, "broken")
	}
	return new(testpb.Empty), nil
}

// start serves on loopback and registers.
func start(t *testing.T, store registry.Registrar) *server {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, gs := new(server), grpc.NewServer()
	testpb.RegisterTestServiceServer(gs, s)
	var work sync.WaitGroup
	work.Go(func() { gs.Serve(lis) })
	t.Cleanup(func() { gs.Stop(); work.Wait() })
	in := registry.Instance{Service: "backend", Address: lis.Addr().String(), Zone: "here"}
	if _, err := store.Register(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	return s
}

// ejections counts the ejections that gRPC records.
type ejections struct {
	experimental.UnimplementedMetricsRecorder
	count atomic.Int64
}

// RecordInt64Count implements [experimental.MetricsRecorder].
func (e *ejections) RecordInt64Count(h *experimental.Int64CountHandle, n int64, _ ...string) {
	if h.Descriptor().Name == "grpc.lb.outlier_detection.ejections_enforced" {
		e.count.Add(n)
	}
}

func (*ejections) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (*ejections) HandleRPC(context.Context, stats.RPCStats)                         {}
func (*ejections) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (*ejections) HandleConn(context.Context, stats.ConnStats)                       {}

// callUntil makes calls that wait for a connection until done returns true for the error of a call.
func callUntil(t *testing.T, conn grpc.ClientConnInterface, what string, done func(error) bool) {
	t.Helper()
	ctx := watchtest.Context(t)
	watchtest.Eventually(t, what, func() bool {
		_, err := testpb.NewTestServiceClient(conn).EmptyCall(ctx, new(testpb.Empty), grpc.WaitForReady(true))
		return done(err)
	})
}

func TestOutlierDetection_EjectsBrokenServer(t *testing.T) {
	for name, child := range map[string]string{
		"round_robin":                `{"round_robin":{}}`,
		"least_request_experimental": `{"least_request_experimental":{}}`,
		"rollcall_round_robin":       `{"rollcall_round_robin":{}}`,
		"rollcall_weighted":          `{"rollcall_weighted":{}}`,
		"rollcall_zone":              `{"rollcall_zone":{"zone":"here"}}`,
		// Not rollcall_p2c: it leaves a server that fails alone by itself, before outlier detection has seen enough calls.
	} {
		t.Run(name, func(t *testing.T) {
			store := memory.New()
			t.Cleanup(func() { store.Close() })
			servers := []*server{start(t, store), start(t, store), start(t, store)}
			ejected := new(ejections)
			conn, err := grpcx.NewClient("rollcall:///backend", store,
				grpc.WithTransportCredentials(insecure.NewCredentials()),
				grpc.WithStatsHandler(ejected),
				grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"outlier_detection_experimental":{
					"interval":"0.1s", "baseEjectionTime":"1s", "maxEjectionTime":"1s", "maxEjectionPercent":50,
					"failurePercentageEjection":{"threshold":50,"enforcementPercentage":100,"minimumHosts":3,"requestVolume":5},
					"childPolicy":[`+child+`]}}]}`))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			callUntil(t, conn, "all servers to be called", func(err error) bool {
				if err != nil {
					t.Fatal(err)
				}
				return servers[0].calls.Load() > 0 && servers[1].calls.Load() > 0 && servers[2].calls.Load() > 0
			})

			servers[0].broken.Store(true)
			good := 0
			callUntil(t, conn, "the broken server to be left alone", func(err error) bool {
				if err != nil {
					good = 0
				} else {
					good++
				}
				return good >= 100 && ejected.count.Load() > 0
			})
			servers[0].broken.Store(false)
			servers[0].calls.Store(0)
			callUntil(t, conn, "the calls to come back", func(error) bool { return servers[0].calls.Load() > 10 })
		})
	}
}
