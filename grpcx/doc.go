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
// Package consulscheme below this one registers the scheme consul, for programs that call grpc.NewClient themselves. The
// packages weighted, zone and p2c register balancing policies.
//
// # Policies of the application's own
//
// A policy finds the instance behind an endpoint with [InstanceFromEndpoint]. gRPC's ring_hash, and pick_first where it
// shuffles, go by the weights of the instances. All of gRPC's policies work above this resolver; outlier detection needs the
// import of google.golang.org/grpc/xds, which registers it.
//
// # Metrics
//
// A resolver records through the MetricsRecorder of its channel, which stats/opentelemetry takes up like gRPC's own metrics.
// Each has the label grpc.target.
//
//	rollcall.resolver.updates      states that the channel was given
//	rollcall.resolver.errors       errors that the registry reported, each time that it became another
//	rollcall.resolver.holds        times that an emptied set was not believed at once
//	rollcall.resolver.panics       times that instances which do not pass were used as well
//	rollcall.resolver.endpoints    endpoints in the newest state
//	rollcall.resolver.subset_size  the same, of a channel that uses a subset
//	rollcall.resolver.set_age      seconds for which the set has possibly been out of date; 0 while the registry answers
package grpcx
