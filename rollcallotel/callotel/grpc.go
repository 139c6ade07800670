package callotel

import (
	"context"
	"sync"

	"google.golang.org/grpc"

	"github.com/rollcall-go/rollcall/grpcx"
)

// UnaryInterceptor counts the unary calls of a channel of [grpcx.NewClient]. It is for grpc.WithChainUnaryInterceptor. Calls on a channel
// that does not have a target of the scheme "rollcall" are not counted. On other channels with such a target no instance is known, so
// their calls have the version "_none".
//
// An interceptor that repeats calls by itself sees them as one call if it comes after this one, and as several calls if it comes before.
func (r *Recorder) UnaryInterceptor(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	to := r.targets.parsed(cc.Target())
	if to == nil {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	within, served := grpcx.WithServed(ctx)
	err := invoke(within, method, req, reply, cc, opts...)
	r.count(ctx, to, served, err)
	return err
}

// StreamInterceptor is like [Recorder.UnaryInterceptor] for streams. It is for grpc.WithChainStreamInterceptor. gRPC requires that the
// client reads a stream to its end or ends its context: a stream that it forgets is not counted before the channel is closed.
func (r *Recorder) StreamInterceptor(ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	to := r.targets.parsed(cc.Target())
	if to == nil {
		return open(ctx, d, cc, method, opts...)
	}
	within, served := grpcx.WithServed(ctx)
	var once sync.Once
	ended := func(err error) { once.Do(func() { r.count(ctx, to, served, err) }) }
	stream, err := open(within, d, cc, method, append(opts[:len(opts):len(opts)], grpc.OnFinish(ended))...)
	if err != nil {
		ended(err) // an interceptor may refuse the stream, so that gRPC does not see it
	}
	return stream, err
}

func (r *Recorder) count(ctx context.Context, to *target, served *grpcx.Served, err error) {
	in, query := served.Instance(), ""
	if r.byQuery {
		query = to.query
	}
	r.calls.add(to.service, versionOf(in), query, grpcOutcome(err))
	addToSpan(ctx, in)
}
