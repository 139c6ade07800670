// Package grpcx connects gRPC and Rollcall. Clients find instances through any [registry.Discovery]; servers register themselves, and leave
// without a lost call.
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
// Package serve does the same for HTTP servers. A process with gRPC and HTTP puts the HTTP server in Server.Endpoints.
//
// The subpackages weighted, zone and p2c register balancing policies. The subpackage consulscheme registers the scheme consul for programs
// that call grpc.NewClient themselves.
//
// Errors of this package are *[registry.Error].
//
// # Instances that do not pass
//
// An instance that does not pass may be alive, or its address may belong to another service by now. If a connection that was made while the
// instance passed is still there, the instance is probably alive; if that connection broke, it is probably not. So what a channel does
// depends on both:
//
//	instance                                          connected    connection broke    never connected
//	passes                                            used         dialled             dialled
//	passes, weight 0 or less                          only if no passing instance with a weight above 0 is usable
//	passes, outside of the channel's Subset           only if no instance of the subset passes or is connected
//	does not pass, used by the panic threshold        used         not dialled         last resort
//	missing, but kept (StaleError.Withheld)           used         not dialled         last resort of a new channel
//	has left the registry (EmptyGrace)                used         not dialled         not dialled
//	in maintenance, or was when it left               not used     not used            not used
//	any, while the registry cannot be reached         as in the last good set
//
// An instance is usable if it is connected and does not fail its health check, or if connecting to it has not failed yet. An instance in
// StaleError.Withheld is missing from the newest set, or does not pass in it. The registry withholds that set, so readers keep the
// instance.
//
// A last resort is dialled only if the channel has no other connection and all attempts to reach passing instances have failed. The
// connection is closed when a passing instance is connected. A channel is new until it has had a connection. An instance that passes
// again is dialled at once, without waiting for the end of its backoff. If no instance is connected or may be dialled, calls fail with
// UNAVAILABLE and a text that says so.
//
// These rules apply to the policies of this module, and to every policy on a channel of [NewClient]. On a channel of grpc.NewClient with
// [NewBuilder], gRPC's own policies dial all endpoints that they get. To have the rules there too, wrap the policy in the service config:
//
//	{"loadBalancingConfig":[{"rollcall_guarded":{"childPolicy":[{"round_robin":{}}]}}]}
//
// # Health checks and identity
//
// With health=SERVICE in the target, an instance gets calls only while the gRPC health service behind its connection says that SERVICE is
// serving. So calls do not reach another service that took over the address, unless it has no health service: gRPC counts that as healthy.
// With TLS, gRPC does not connect to a server without a certificate for the name of the service.
//
// Without a health check and without TLS, two cases remain in which a call may reach another service:
//
//   - A crashed instance passes until its TTL or check ends, so its address is dialled until then.
//   - pick_first looks at no other instance while it is connected.
//
// Whether an instance that is connected and fails its health check counts as connected:
//
//	for last resorts          yes
//	for drained instances     no
//
// So drained instances, with weight 0 or less, get calls if all passing instances with a weight above 0 fail their health check or cannot
// be connected to. least_request, ring_hash and weighted_round_robin do not show which of their instances serve: with them, such a drained instance keeps
// getting calls until another instance has been connected anew.
//
// # Policies of your own
//
// A policy finds the instance behind an endpoint with [InstanceFromEndpoint]. gRPC's own policies work with this resolver:
//
//   - ring_hash uses the weights and the IDs of the instances. A restart with the same IDs moves no session, even if the addresses change.
//   - pick_first uses the weights if it shuffles.
//   - Outlier detection needs the import of google.golang.org/grpc/xds, which registers it.
//
// A policy over gRPC's endpointsharding and pick_first ignores the health check. To heed it, change the resolver state before you pass it
// on:
//
//	s.ResolverState = pickfirst.EnableHealthListener(s.ResolverState)
//
// The example "Policy" shows a whole policy.
//
// # Servers that freeze
//
// A frozen server keeps its connections and answers nothing: it was stopped by SIGSTOP or a debugger, its container was paused, or its
// virtual machine is being moved. The registry lists it until its TTL ends, and until then rollcall_round_robin gives it its share of the
// calls. When the process goes on and its registration has expired, it registers again by itself. These bound the cost:
//
//   - A deadline for each call, by the caller or by a timeout in methodConfig. Calls without one wait until the server continues.
//   - The policy rollcall_p2c counts unanswered calls as load, so a frozen server gets only a few calls.
//   - Keepalive closes the connection, by default after 6 min 20 s, since servers close connections that are probed more often than
//     every 5 minutes. To make it 13 s, use grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 3 *
//     time.Second}) on clients and keepalive.EnforcementPolicy{MinTime: 10 * time.Second} on servers. Nothing else closes it, if the
//     kernel still acknowledges what is sent.
//   - A shorter TTL in the registry, which costs more renewals.
//
// # What a pick costs
//
// Nanoseconds for a pick and the end of its call, by the number of ready instances; allocations in parentheses. Measured in one run on two
// cores of an AMD EPYC, with grpc-go 1.85.0, by
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
// rollcall_p2c measures the time of every call while an instance gets fewer than a thousand calls a second. Such a pick reads the clock
// twice and costs 120 to 160 ns and an allocation (go test -run '^$' -bench Timed ./grpcx/p2c).
//
// # Metrics
//
// A resolver records through the MetricsRecorder of its channel, and stats/opentelemetry exports that like gRPC's own metrics. Each metric
// has the label grpc.target. Package zone has one more, rollcall.zone.picks.
//
//	rollcall.resolver.updates           states that the channel was given
//	rollcall.resolver.errors            errors that the registry reported
//	rollcall.resolver.grace_periods     grace periods after all instances have left the registry
//	rollcall.resolver.panics            times that the panic threshold took effect, so that instances that do not pass were used too
//	rollcall.resolver.invalid_configs   values of the service config in the registry that could not be used
//	rollcall.resolver.endpoints         endpoints in the newest state
//	rollcall.resolver.subset_size       the same, of a channel that uses a subset
//	rollcall.resolver.set_age           seconds for which the set may have been out of date; 0 while the registry answers
//	rollcall.resolver.panic_active      1 while the panic threshold is in effect
package grpcx
