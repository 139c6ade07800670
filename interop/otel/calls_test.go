package otel_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	tracesdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/rollcallotel/callotel"
)

// callFixture has a client whose calls are counted, in real time.
type callFixture struct {
	fixture
	recorder *callotel.Recorder
}

func newCallFixture(t *testing.T, c callotel.Config) *callFixture {
	reader, spans := metric.NewManualReader(), tracetest.NewInMemoryExporter()
	f := &callFixture{fixture: fixture{
		T: t, reg: memory.New(), reader: reader, meter: metric.NewMeterProvider(metric.WithReader(reader)),
		spans: spans, tracer: tracesdk.NewTracerProvider(tracesdk.WithSyncer(spans)),
	}}
	t.Cleanup(func() { f.reg.Close() })
	f.recorder = f.newRecorder(c)
	return f
}

func (f *callFixture) newRecorder(c callotel.Config) *callotel.Recorder {
	f.Helper()
	c.MeterProvider = f.meter
	r, err := callotel.New(c)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := r.Close(); err != nil {
			f.Error(err)
		}
	})
	return r
}

// server is an instance of the service. Calls to it end with fail.
type server struct {
	testpb.UnimplementedTestServiceServer
	fail error
}

func (s server) EmptyCall(context.Context, *testpb.Empty) (*testpb.Empty, error) {
	return new(testpb.Empty), s.fail
}

// FullDuplexCall returns each message, until the client has sent its last one.
func (s server) FullDuplexCall(stream grpc.BidiStreamingServer[testpb.StreamingOutputCallRequest, testpb.StreamingOutputCallResponse]) error {
	for s.fail == nil {
		if _, err := stream.Recv(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := stream.Send(new(testpb.StreamingOutputCallResponse)); err != nil {
			return err
		}
	}
	return s.fail
}

// serve starts and registers an instance of the service "backend". Its ID is "id-" and its version.
func (f *callFixture) serve(version string, fail error) {
	f.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	s := grpc.NewServer()
	testpb.RegisterTestServiceServer(s, server{fail: fail})
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(lis) }()
	f.Cleanup(func() { s.Stop(); <-done })
	in := registry.Instance{Service: "backend", ID: "id-" + version, Address: lis.Addr().String(), Version: version, Zone: "zone-" + version}
	if _, err := f.reg.Register(f.Context(), in); err != nil {
		f.Fatal(err)
	}
}

func (f *callFixture) dial(target string, opts ...grpc.DialOption) testpb.TestServiceClient {
	f.Helper()
	return f.dialWith(f.recorder, target, opts...)
}

func (f *callFixture) dialWith(r *callotel.Recorder, target string, opts ...grpc.DialOption) testpb.TestServiceClient {
	f.Helper()
	conn, err := grpcx.NewClient(target, f.reg, slices.Concat([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithChainUnaryInterceptor(r.UnaryInterceptor),
		grpc.WithChainStreamInterceptor(r.StreamInterceptor),
	}, opts)...)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { conn.Close() })
	return testpb.NewTestServiceClient(conn)
}

// call makes n calls that wait until there are connections. Each ends with the status OK or want.
func (f *callFixture) call(client testpb.TestServiceClient, n int, want codes.Code) {
	f.Helper()
	for range n {
		_, err := client.EmptyCall(f.Context(), new(testpb.Empty), grpc.WaitForReady(true))
		if code := status.Code(err); code != codes.OK && code != want {
			f.Fatalf("a call ended with %v, want OK or %v", err, want)
		}
	}
}

// calls returns the numbers of calls by service, error type, version and status. A number that is 0 is left out.
func (f *callFixture) calls() series {
	f.Helper()
	all := series{}
	for name, n := range f.read() {
		if name, ok := strings.CutPrefix(name, "client.calls"); ok && n > 0 {
			all[strings.Trim(name, "{}")] = n
		}
	}
	return all
}

func (f *callFixture) expectCalls(want series) {
	f.Helper()
	if got := f.calls(); !maps.Equal(got, want) {
		f.Fatalf("the calls are %v, want %v", got, want)
	}
}

// waitForCalls waits until the calls are want.
func (f *callFixture) waitForCalls(want series) {
	f.Helper()
	for deadline := time.Now().Add(30 * time.Second); !maps.Equal(f.calls(), want); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			f.expectCalls(want)
		}
	}
}

func TestRecorder_TellsFailingVersion(t *testing.T) {
	f := newCallFixture(t, callotel.Config{})
	f.serve("1.0", nil)
	f.serve("1.1", status.Error(codes.Internal, "broken"))
	f.call(f.dial("rollcall:///backend"), 100, codes.Internal)
	got := f.calls()
	good, bad := got["backend,1.0,OK"], got["backend,INTERNAL,1.1,INTERNAL"]
	if good+bad != 100 || bad == 0 || good == 0 || len(got) != 2 {
		t.Errorf("the calls are %v, want 100, of which the ones to 1.1 failed", got)
	}
	names := []attribute.Key{"service.peer.name", "rollcall.instance.version", "rpc.response.status_code", "error.type"}
	for _, name := range names {
		if len(f.values(name)) == 0 {
			t.Errorf("no series has the attribute %s", name)
		}
	}
}

func TestRecorder_CountsCallsWithoutInstance(t *testing.T) {
	f := newCallFixture(t, callotel.Config{})
	client := f.dial("rollcall:///backend")
	if _, err := client.EmptyCall(t.Context(), new(testpb.Empty)); status.Code(err) != codes.Unavailable {
		t.Fatalf("a call without an instance ended with %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := client.EmptyCall(ctx, new(testpb.Empty), grpc.WaitForReady(true)); status.Code(err) != codes.Canceled {
		t.Fatalf("a cancelled call ended with %v", err)
	}
	if _, err := client.FullDuplexCall(t.Context()); status.Code(err) != codes.Unavailable {
		t.Fatalf("a stream without an instance ended with %v", err)
	}
	f.expectCalls(series{"backend,UNAVAILABLE,_none,UNAVAILABLE": 2, "backend,CANCELLED,_none,CANCELLED": 1})
}

func TestRecorder_CountsInstanceWithoutVersion(t *testing.T) {
	f := newCallFixture(t, callotel.Config{})
	f.serve("", nil)
	f.call(f.dial("rollcall:///backend"), 1, codes.OK)
	f.expectCalls(series{"backend,,OK": 1})
}

func TestRecorder_CountsStreamOnceWhenItEnds(t *testing.T) {
	f := newCallFixture(t, callotel.Config{})
	f.serve("1.0", nil)
	stream, err := f.dial("rollcall:///backend").FullDuplexCall(t.Context(), grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := stream.Send(new(testpb.StreamingOutputCallRequest)); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	f.expectCalls(series{})
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != io.EOF {
		t.Fatal(err)
	}
	f.expectCalls(series{"backend,1.0,OK": 1})
}

// A client that stops reading a stream ends its context. Nothing was received from the first stream.
func TestRecorder_CountsDroppedStream(t *testing.T) {
	f := newCallFixture(t, callotel.Config{})
	f.serve("1.0", nil)
	client := f.dial("rollcall:///backend")
	for received := range 2 {
		ctx, drop := context.WithCancel(t.Context())
		stream, err := client.FullDuplexCall(ctx, grpc.WaitForReady(true))
		if err != nil {
			t.Fatal(err)
		}
		for range received {
			if err := stream.Send(new(testpb.StreamingOutputCallRequest)); err != nil {
				t.Fatal(err)
			}
			if _, err := stream.Recv(); err != nil {
				t.Fatal(err)
			}
		}
		drop()
		f.waitForCalls(series{"backend,CANCELLED,1.0,CANCELLED": float64(received + 1)})
	}
}

func TestRecorder_CountsFailedStream(t *testing.T) {
	f := newCallFixture(t, callotel.Config{})
	f.serve("1.0", status.Error(codes.DataLoss, "broken"))
	stream, err := f.dial("rollcall:///backend").FullDuplexCall(t.Context(), grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.DataLoss {
		t.Fatal(err)
	}
	f.expectCalls(series{"backend,DATA_LOSS,1.0,DATA_LOSS": 1})
}

// An interceptor after the Recorder refuses a stream, which gRPC does not see.
func TestRecorder_CountsRefusedStream(t *testing.T) {
	f := newCallFixture(t, callotel.Config{})
	refuse := func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, grpc.Streamer, ...grpc.CallOption) (grpc.ClientStream, error) {
		return nil, context.DeadlineExceeded
	}
	if _, err := f.dial("rollcall:///backend", grpc.WithChainStreamInterceptor(refuse)).FullDuplexCall(t.Context()); err == nil {
		t.Fatal("the stream is open")
	}
	f.expectCalls(series{"backend,DEADLINE_EXCEEDED,_none,DEADLINE_EXCEEDED": 1})
}

// A call that the first instance fails is repeated on the other one.
func TestRecorder_CountsRepeatedCallOnce(t *testing.T) {
	f := newCallFixture(t, callotel.Config{})
	f.serve("1.0", nil)
	f.serve("1.1", status.Error(codes.Unavailable, "busy"))
	f.call(f.dial("rollcall:///backend?retry=grpc.testing.TestService/EmptyCall"), 10, codes.OK)
	f.expectCalls(series{"backend,1.0,OK": 10})
}

func TestRecorder_SharesServedWithOtherInterceptors(t *testing.T) {
	f := newCallFixture(t, callotel.Config{})
	f.serve("1.0", nil)
	var outer, inner *grpcx.Served
	ask := func(to **grpcx.Served) grpc.UnaryClientInterceptor {
		return func(ctx context.Context, method string, q, a any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			ctx, *to = grpcx.WithServed(ctx)
			return invoke(ctx, method, q, a, cc, opts...)
		}
	}
	client := f.dial("rollcall:///backend", grpc.WithUnaryInterceptor(ask(&outer)), grpc.WithChainUnaryInterceptor(ask(&inner)))
	f.call(client, 1, codes.OK)
	for _, s := range []*grpcx.Served{outer, inner} {
		if in := s.Instance(); in == nil || in.ID != "id-1.0" {
			t.Errorf("another interceptor is told %v", in)
		}
	}
	f.expectCalls(series{"backend,1.0,OK": 1})
}

func TestRecorder_SeparatesQueries(t *testing.T) {
	f := newCallFixture(t, callotel.Config{ByQuery: true})
	f.serve("1.0", nil)
	f.serve("1.1", nil)
	f.call(f.dial("rollcall:///backend?version=1.1&subset=1"), 3, codes.OK)
	f.call(f.dial("rollcall:///backend?version=1.0"), 2, codes.OK)
	f.recorder.HTTPCall(t.Context(), registry.Query{Service: "backend", Version: "1.0"}, nil, 200, nil)
	f.expectCalls(series{"backend,1.1,version=1.1,OK": 3, "backend,1.0,version=1.0,OK": 2, "backend,200,_none,version=1.0": 1})
}

func TestRecorder_CountsHTTPCalls(t *testing.T) {
	f := newCallFixture(t, callotel.Config{})
	q, in := registry.Query{Service: "shop"}, &registry.Instance{Service: "shop", ID: "id-2", Version: "2.0", Zone: "z"}
	ctx, span := f.tracer.Tracer("test").Start(t.Context(), "request")
	f.recorder.HTTPCall(ctx, q, in, 200, nil)
	f.recorder.HTTPCall(ctx, q, in, 503, nil)
	f.recorder.HTTPCall(ctx, q, nil, 0, fmt.Errorf("%w: %w", registry.ErrUnavailable, errSecret))
	span.End()
	f.expectCalls(series{"shop,200,2.0": 1, "shop,503,503,2.0": 1, "shop,unavailable,_none": 1})
	f.expectSpan("request", "id-2", "2.0", "z")
}

func (f *callFixture) expectSpan(name, id, version, zone string) {
	f.Helper()
	want := []attribute.KeyValue{
		attribute.String("rollcall.instance.id", id), attribute.String("rollcall.instance.version", version), attribute.String("rollcall.instance.zone", zone),
	}
	for _, s := range f.spans.GetSpans() {
		if s.Name == name {
			if !slices.Equal(s.Attributes, want) {
				f.Errorf("the attributes of span %s are %v, want %v", name, s.Attributes, want)
			}
			return
		}
	}
	f.Errorf("there is no span %s", name)
}

func TestRecorder_AddsInstanceToSpan(t *testing.T) {
	f := newCallFixture(t, callotel.Config{})
	f.serve("1.0", nil)
	client := f.dial("rollcall:///backend")
	ctx, span := f.tracer.Tracer("test").Start(t.Context(), "unary")
	if _, err := client.EmptyCall(ctx, new(testpb.Empty), grpc.WaitForReady(true)); err != nil {
		t.Fatal(err)
	}
	span.End()
	ctx, span = f.tracer.Tracer("test").Start(t.Context(), "stream")
	stream, err := client.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != io.EOF {
		t.Fatal(err)
	}
	span.End()
	f.expectSpan("unary", "id-1.0", "1.0", "zone-1.0")
	f.expectSpan("stream", "id-1.0", "1.0", "zone-1.0")
}

func TestRecorder_TellsNoSecrets(t *testing.T) {
	f := newCallFixture(t, callotel.Config{})
	f.serve("1.0", status.Error(codes.Unavailable, errSecret.Error()))
	f.call(f.dial("rollcall:///backend"), 3, codes.Unavailable)
	f.recorder.HTTPCall(t.Context(), registry.Query{Service: "shop"}, nil, 0, errSecret)
	all := fmt.Sprint(f.read())
	for _, secret := range []string{"id-", "127.0.0.1", "10.9.8.7", "refused"} {
		if strings.Contains(all, secret) {
			t.Errorf("%q is in %s", secret, all)
		}
	}
}

func TestRecorder_IgnoresChannelsWithoutService(t *testing.T) {
	f := newCallFixture(t, callotel.Config{})
	conn, err := grpc.NewClient("passthrough:///10.9.8.7:80", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return nil, errSecret }),
		grpc.WithChainUnaryInterceptor(f.recorder.UnaryInterceptor), grpc.WithChainStreamInterceptor(f.recorder.StreamInterceptor))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := testpb.NewTestServiceClient(conn)
	if _, err := client.EmptyCall(t.Context(), new(testpb.Empty)); err == nil {
		t.Error("a call to an unreachable server succeeded")
	}
	if _, err := client.FullDuplexCall(t.Context()); err == nil {
		t.Error("a stream to an unreachable server is open")
	}
	f.expectCalls(series{})
}

func TestRecorder_SecondOneOfProviderAddsUp(t *testing.T) {
	f := newCallFixture(t, callotel.Config{})
	f.serve("1.0", nil)
	second := f.newRecorder(callotel.Config{})
	f.call(f.dial("rollcall:///backend"), 1, codes.OK)
	f.call(f.dialWith(second, "rollcall:///backend"), 2, codes.OK)
	f.expectCalls(series{"backend,1.0,OK": 3})
}

func TestRecorder_EndsWithClose(t *testing.T) {
	f := newCallFixture(t, callotel.Config{})
	f.serve("1.0", nil)
	client := f.dial("rollcall:///backend")
	f.call(client, 1, codes.OK)
	f.expectCalls(series{"backend,1.0,OK": 1})
	for range 2 {
		if err := f.recorder.Close(); err != nil {
			t.Fatal(err)
		}
	}
	f.call(client, 1, codes.OK)
	f.expectCalls(series{})
}

func TestNew_RefusesWhatCannotWork(t *testing.T) {
	for _, c := range []callotel.Config{{MaxServices: -1}, {MaxVersions: -1}} {
		if _, err := callotel.New(c); !errors.Is(err, registry.ErrInvalid) {
			t.Errorf("the error is %v, want ErrInvalid", err)
		}
	}
}
