package callotel_test

import (
	"context"
	"net"
	"testing"

	"go.opentelemetry.io/otel/metric/noop"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/rollcallotel/callotel"
)

type empty struct {
	testpb.UnimplementedTestServiceServer
}

func (empty) EmptyCall(context.Context, *testpb.Empty) (*testpb.Empty, error) {
	return new(testpb.Empty), nil
}

// BenchmarkUnaryInterceptor measures unary calls over loopback, without a Recorder, with grpcx.WithServed alone, and with a Recorder.
func BenchmarkUnaryInterceptor(b *testing.B) {
	served := func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		ctx, _ = grpcx.WithServed(ctx)
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	for _, c := range []struct {
		name string
		opts []grpc.DialOption
	}{
		{name: "calls=bare"},
		{name: "calls=served", opts: []grpc.DialOption{grpc.WithChainUnaryInterceptor(served)}},
		{name: "calls=recorded", opts: []grpc.DialOption{grpc.WithChainUnaryInterceptor(newRecorder(b).UnaryInterceptor)}},
	} {
		b.Run(c.name, func(b *testing.B) {
			client := testpb.NewTestServiceClient(serveAndDial(b, c.opts...))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := client.EmptyCall(context.Background(), new(testpb.Empty), grpc.WaitForReady(true)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkHTTPCall measures what counting one call costs by itself.
func BenchmarkHTTPCall(b *testing.B) {
	r := newRecorder(b)
	in := &registry.Instance{Service: "greeter", ID: "a", Address: "127.0.0.1:80", Version: "1.4.0"}
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			r.HTTPCall(context.Background(), registry.Query{Service: "greeter"}, in, 200, nil)
		}
	})
}

func newRecorder(b *testing.B) *callotel.Recorder {
	r, err := callotel.New(callotel.Config{MeterProvider: noop.NewMeterProvider()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := r.Close(); err != nil {
			b.Error(err)
		}
	})
	return r
}

func serveAndDial(b *testing.B, opts ...grpc.DialOption) *grpc.ClientConn {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := grpc.NewServer()
	testpb.RegisterTestServiceServer(server, empty{})
	go server.Serve(lis)
	b.Cleanup(server.Stop)
	reg := memory.New()
	b.Cleanup(func() { reg.Close() })
	in := registry.Instance{Service: "greeter", Address: lis.Addr().String(), Version: "1.4.0"}
	if _, err := reg.Register(b.Context(), in); err != nil {
		b.Fatal(err)
	}
	conn, err := grpcx.NewClient("rollcall:///greeter", reg, append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	return conn
}
