package grpcx_test

import (
	"context"
	"testing"

	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// An interceptor and its application both learn who served a call, also of a stream that is still open.
func TestWithServed_AnswersNestedContexts(t *testing.T) {
	var inner *grpcx.Served
	unary := func(ctx context.Context, method string, q, a any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		ctx, inner = grpcx.WithServed(ctx)
		return invoke(ctx, method, q, a, cc, opts...)
	}
	stream := func(ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		ctx, inner = grpcx.WithServed(ctx)
		return open(ctx, d, cc, method, opts...)
	}
	for name, opts := range map[string][]grpc.DialOption{
		"chained": {grpc.WithChainUnaryInterceptor(unary), grpc.WithChainStreamInterceptor(stream)},
		"single":  {grpc.WithUnaryInterceptor(unary), grpc.WithStreamInterceptor(stream)},
	} {
		t.Run(name, func(t *testing.T) {
			store := newStore(t)
			id := registerAddress(t, store, newBackend(t).serve(t).address()).Instance().ID
			conn := dial(t, target, store, opts...)
			known := func(what string, all ...*grpcx.Served) {
				t.Helper()
				for i, s := range all {
					if in := s.Instance(); in == nil || in.ID != id {
						t.Errorf("%s: the %d-th who asks is told %v", what, i, in)
					}
				}
			}
			ctx, outer := grpcx.WithServed(watchtest.Context(t))
			ctx, second := grpcx.WithServed(ctx)
			if _, err := call(ctx, conn); err != nil {
				t.Fatal(err)
			}
			known("a call", outer, second, inner)

			ctx, outer = grpcx.WithServed(watchtest.Context(t))
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			s, err := testpb.NewTestServiceClient(conn).FullDuplexCall(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if outer.Instance() != nil {
				t.Error("it is known before anything was received")
			}
			if _, err := s.Recv(); err != nil {
				t.Fatal(err)
			}
			known("an open stream", outer, inner)
			cancel()
			if _, err := s.Recv(); err == nil {
				t.Fatal("the stream goes on")
			}
			known("a stream that was cancelled", outer, inner)

			ctx, outer = grpcx.WithServed(watchtest.Context(t))
			if s, err = testpb.NewTestServiceClient(conn).FullDuplexCall(ctx); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Header(); err != nil {
				t.Fatal(err)
			}
			known("a stream with its header", outer, inner)

			ctx, outer = grpcx.WithServed(watchtest.Context(t))
			ctx, drop := context.WithCancel(ctx)
			ended := make(chan *registry.Instance, 1)
			if _, err = testpb.NewTestServiceClient(conn).FullDuplexCall(ctx, grpc.OnFinish(func(error) { ended <- outer.Instance() })); err != nil {
				t.Fatal(err)
			}
			drop()
			if in := <-ended; in == nil || in.ID != id {
				t.Errorf("a function of OnFinish is told %v", in)
			}
		})
	}
}
