// Package greeting is the gRPC service of the examples. It is written by hand with a message type of the protobuf module, so that the
// examples need no code generator. Your own service has generated code instead.
package greeting

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Service is the name of the service in the registry.
const Service = "greeter"

const fullMethod = "/rollcall.examples.Greeter/Greet"

// Server answers greetings.
type Server interface {
	Greet(ctx context.Context, name string) (string, error)
}

// Register makes s serve srv.
func Register(s grpc.ServiceRegistrar, srv Server) {
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: "rollcall.examples.Greeter",
		HandlerType: (*Server)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "Greet", Handler: handle}},
	}, srv)
}

func handle(srv any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
	in := new(wrapperspb.StringValue)
	if err := decode(in); err != nil {
		return nil, err
	}
	greet := func(ctx context.Context, req any) (any, error) {
		text, err := srv.(Server).Greet(ctx, req.(*wrapperspb.StringValue).GetValue())
		return wrapperspb.String(text), err
	}
	if intercept == nil {
		return greet(ctx, in)
	}
	return intercept(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: fullMethod}, greet)
}

// Greet calls the service over cc.
func Greet(ctx context.Context, cc grpc.ClientConnInterface, name string, opts ...grpc.CallOption) (string, error) {
	out := new(wrapperspb.StringValue)
	err := cc.Invoke(ctx, fullMethod, wrapperspb.String(name), out, opts...)
	return out.GetValue(), err
}

// From is a Server whose answers name it.
type From string

// Greet implements Server.
func (f From) Greet(_ context.Context, name string) (string, error) {
	return "Hello " + name + ", this is " + string(f), nil
}
