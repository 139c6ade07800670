package grpcx_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// effects is a service whose methods count how often they are executed, and fail as often as the test wants.
type effects struct {
	executed atomic.Int64
	failures atomic.Int64
	received atomic.Int64 // messages of streams
}

// init describes the service, as generated code would.
func init() {
	levels := map[string]descriptorpb.MethodOptions_IdempotencyLevel{
		"Read": descriptorpb.MethodOptions_NO_SIDE_EFFECTS, "Put": descriptorpb.MethodOptions_IDEMPOTENT,
		"Post": descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN, "Upload": descriptorpb.MethodOptions_IDEMPOTENT,
	}
	s := &descriptorpb.ServiceDescriptorProto{Name: proto.String("Effects")}
	for _, name := range []string{"Read", "Put", "Post", "Upload"} {
		s.Method = append(s.Method, &descriptorpb.MethodDescriptorProto{
			Name: proto.String(name), InputType: proto.String(".google.protobuf.Empty"), OutputType: proto.String(".google.protobuf.Empty"),
			ClientStreaming: proto.Bool(name == "Upload"), Options: &descriptorpb.MethodOptions{IdempotencyLevel: levels[name].Enum()},
		})
	}
	f, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("grpcxtest.proto"), Package: proto.String("grpcxtest"), Syntax: proto.String("proto3"),
		Dependency: []string{"google/protobuf/empty.proto"}, Service: []*descriptorpb.ServiceDescriptorProto{s},
	}, protoregistry.GlobalFiles)
	if err == nil {
		err = protoregistry.GlobalFiles.RegisterFile(f)
	}
	if err != nil {
		panic(err)
	}
}

func (e *effects) execute() (*emptypb.Empty, error) {
	e.executed.Add(1)
	if e.failures.Add(-1) >= 0 {
		return nil, status.Error(codes.Unavailable, "not now")
	}
	return new(emptypb.Empty), nil
}

func (e *effects) unary(name string) grpc.MethodDesc {
	return grpc.MethodDesc{MethodName: name, Handler: func(_ any, _ context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		if err := dec(new(emptypb.Empty)); err != nil {
			return nil, err
		}
		return e.execute()
	}}
}

// upload takes three messages, and then says how it went. With failures it breaks off at the third.
func (e *effects) upload(_ any, s grpc.ServerStream) error {
	e.executed.Add(1)
	for n := 1; ; n++ {
		switch err := s.RecvMsg(new(emptypb.Empty)); {
		case err == io.EOF:
			return s.SendMsg(new(emptypb.Empty))
		case err != nil:
			return err
		}
		e.received.Add(1)
		if n == 3 && e.failures.Add(-1) >= 0 {
			return status.Error(codes.Unavailable, "it leaves")
		}
	}
}

func (e *effects) serve(t *testing.T, store registry.Registrar) {
	t.Helper()
	b := newBackend(t)
	upload := []grpc.StreamDesc{{StreamName: "Upload", Handler: e.upload, ClientStreams: true}}
	b.gs.RegisterService(&grpc.ServiceDesc{
		ServiceName: "grpcxtest.Effects", HandlerType: (*any)(nil), Streams: upload,
		Methods: []grpc.MethodDesc{e.unary("Read"), e.unary("Put"), e.unary("Post")},
	}, e)
	b.gs.RegisterService(&grpc.ServiceDesc{ // which nothing describes
		ServiceName: "grpcxtest.Plain", HandlerType: (*any)(nil), Streams: upload, Methods: []grpc.MethodDesc{e.unary("Post")},
	}, e)
	b.serve(t)
	registerAddress(t, store, b.address())
}

func TestNewClient_RetriesOnlyIdempotentAndNamedMethods(t *testing.T) {
	for _, c := range []struct {
		method, parameters string
		opts               []grpc.DialOption
		failures, executed int64
		want               codes.Code
	}{
		{"grpcxtest.Effects/Read", "", nil, 2, 3, codes.OK},
		{"grpcxtest.Effects/Put", "", nil, 3, 3, codes.Unavailable},
		{"grpcxtest.Effects/Post", "", nil, 1, 1, codes.Unavailable},
		{"grpcxtest.Plain/Post", "", nil, 1, 1, codes.Unavailable},
		{"grpcxtest.Effects/Read", "", []grpc.DialOption{grpc.WithDisableRetry()}, 1, 1, codes.Unavailable},
		{"grpcxtest.Effects/Post", "?retry=grpcxtest.Plain/Post&retry=grpcxtest.Effects/Post", nil, 2, 3, codes.OK},
		{"grpcxtest.Plain/Post", "?retry=grpcxtest.Plain/Post", nil, 1, 2, codes.OK},
		{"grpcxtest.Effects/Post", "", []grpc.DialOption{grpcx.WithRetry(grpcx.Retry{Methods: []string{"/grpcxtest.Effects/Post"}, MaxAttempts: 2})}, 2, 2, codes.Unavailable},
		{"grpcxtest.Effects/Post", "?policy=pick_first", nil, 1, 1, codes.Unavailable},
		// What the caller's own service config says stays.
		{"grpcxtest.Effects/Read", "", []grpc.DialOption{grpc.WithDefaultServiceConfig(`{"methodConfig":[{"name":[{}],"timeout":"20s"}]}`)}, 2, 3, codes.OK},
		{"grpcxtest.Effects/Post", "", []grpc.DialOption{grpc.WithDefaultServiceConfig(`{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":2,
			"initialBackoff":"0.01s","maxBackoff":"0.01s","backoffMultiplier":1,"retryableStatusCodes":["UNAVAILABLE"]}}]}`)}, 1, 2, codes.OK},
	} {
		store, e := newStore(t), new(effects)
		e.failures.Store(c.failures)
		e.serve(t, store)
		err := dial(t, target+c.parameters, store, c.opts...).Invoke(watchtest.Context(t), "/"+c.method, new(emptypb.Empty), new(emptypb.Empty))
		if status.Code(err) != c.want || e.executed.Load() != c.executed {
			t.Errorf("%s with %q: %v after it was executed %d times, want %v and %d", c.method, c.parameters, err, e.executed.Load(), c.want, c.executed)
		}
	}
}

// A stream of requests that the server breaks off fails, also if its method is declared idempotent.
func TestNewClient_NeverRetriesStreamsOfRequests(t *testing.T) {
	for method, parameters := range map[string]string{
		"/grpcxtest.Effects/Upload": "", // which declares itself idempotent
		"/grpcxtest.Plain/Upload":   "?retry=grpcxtest.Plain/Upload",
	} {
		store, e := newStore(t), new(effects)
		e.failures.Store(1)
		e.serve(t, store)
		stream, err := dial(t, target+parameters, store).NewStream(watchtest.Context(t), &grpc.StreamDesc{ClientStreams: true}, method)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := stream.SendMsg(new(emptypb.Empty)); err != nil {
				t.Fatal(err)
			}
		}
		if err := stream.RecvMsg(new(emptypb.Empty)); status.Code(err) != codes.Unavailable {
			t.Errorf("%s ends with %v", method, err)
		}
		if n, m := e.executed.Load(), e.received.Load(); n != 1 || m != 3 {
			t.Errorf("%s was executed %d times and received %d messages", method, n, m)
		}
	}
}

func TestWithRetry_NamesInvalidFields(t *testing.T) {
	for want, r := range map[string]grpcx.Retry{
		"has a stream of requests":                {Methods: []string{"grpcxtest.Effects/Upload"}},
		"does not have the form":                  {Methods: []string{"grpcxtest.Effects"}},
		"Retry.MaxAttempts: 6 is not from 2 to 5": {MaxAttempts: 6},
		"Retry.Budget: -1 is not from 1 to 500":   {Budget: -1},
	} {
		_, err := grpcx.NewClient(target, newStore(t), grpc.WithTransportCredentials(insecure.NewCredentials()), grpcx.WithRetry(r))
		var typed *registry.Error
		if !errors.As(err, &typed) || !errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v says %v, want %s", r, err, want)
		}
	}
}

// A service that is down is not made to bear three times its load.
func TestWithRetry_LimitsRetriesByBudget(t *testing.T) {
	store, e := newStore(t), new(effects)
	e.failures.Store(1 << 40)
	e.serve(t, store)
	const many = 300
	conn := dial(t, target, store)
	for range many {
		if err := conn.Invoke(watchtest.Context(t), "/grpcxtest.Effects/Read", new(emptypb.Empty), new(emptypb.Empty)); status.Code(err) != codes.Unavailable {
			t.Fatal(err)
		}
	}
	// 50 tokens may be spent on calls that fail, of which each takes one whether it is a retry or not.
	if n := e.executed.Load(); n < many+25 || n > many+50 {
		t.Errorf("%d calls were made %d times, want 25 to 50 retries", many, n)
	}
}
