// Package grpcx joins gRPC and Rollcall: any [registry.Discovery] as a gRPC resolver, and servers that announce themselves
// and leave without a lost call.
//
// A client:
//
//	conn, err := grpcx.NewClient("rollcall:///greeter?tag=blue", reg, grpc.WithTransportCredentials(creds))
//
// A server:
//
//	s := grpcx.Server{Registrar: reg, Instance: registry.Instance{Service: "greeter"}}
//	err := s.Serve(ctx, gs, lis)
//
// Package consulscheme below this one registers the scheme consul, for programs that call grpc.NewClient themselves.
package grpcx
