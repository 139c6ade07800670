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
// # What a pick costs
//
// A pick and the end of its call, with so many instances ready: nanoseconds, and allocations in brackets. Measured in one run
// on two cores of an AMD EPYC, with grpc-go 1.85.0, by
//
//	cd grpcx/internal/picks && go test -run '^$' -bench Pick
//
//	                              3      100     1,000
//	pick_first                  2.4      2.4       2.2
//	round_robin                 9.6      9.0       9.1
//	rollcall_round_robin        9.1      9.3       9.1
//	rollcall_zone                10       11        11
//	rollcall_weighted           9.7      9.6        15
//	weighted_round_robin        130 (1)  149 (1)   166 (1)
//	rollcall_p2c                 49       51        59
//	least_request_experimental  105 (3)  103 (3)   138 (3)
//	ring_hash_experimental      489 (3)  497 (3)   359 (3)
//
// rollcall_p2c takes the time of every call while an instance gets fewer than a thousand a second; such a pick reads the clock
// twice and costs 120 to 160 ns, and an allocation (go test -run '^$' -bench Timed ./grpcx/p2c).
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
//
// Package zone has one more, rollcall.zone.picks.
package grpcx
