// Package callotel counts the calls of a client by the version of the instance that answered.
//
// During a canary rollout the clients see first whether the new version fails. A [Recorder] counts what they see in
// rollcall.client.calls, so that the versions of a service can be compared even if its servers record nothing:
//
//	recorder, err := callotel.New(callotel.Config{})
//	conn, err := grpcx.NewClient("rollcall:///greeter", reg,
//		grpc.WithChainUnaryInterceptor(recorder.UnaryInterceptor),
//		grpc.WithChainStreamInterceptor(recorder.StreamInterceptor))
//
// # Attributes
//
// The names service.peer.name, rpc.response.status_code, http.response.status_code and error.type follow version 1.43.0 of the semantic
// conventions, which has rpc.response.status_code in place of the older rpc.grpc.status_code.
//
//   - service.peer.name is the name of the service: see [Config.MaxServices].
//   - rollcall.instance.version is the version of the instance that the call went to: see [Config.MaxVersions]. It is empty for an
//     instance without a version. It is "_none" if the call went to no known instance: none passed, or the call ended before
//     one was picked.
//   - rpc.response.status_code is the status of a gRPC call, such as OK or UNAVAILABLE.
//   - http.response.status_code is the status of an HTTP answer. There is no such attribute without an answer.
//   - error.type exists only for calls that failed. Its value is the status for each gRPC status but OK and for each HTTP status of at
//     least 400, otherwise the kind of error.
//   - rollcall.query exists only with [Config.ByQuery].
//
// # What is one call
//
// A call that gRPC repeats counts once, with its last status and its last instance. A stream counts once, when it ends. That includes a
// stream that the client stops reading and whose context ends.
//
// # Spans
//
// When a call ends, the span in its context gets the attributes rollcall.instance.id, rollcall.instance.version and
// rollcall.instance.zone. Plugins such as otelgrpc start the span of a call below the interceptors, so this is the span of the caller.
// Several calls in one span leave the attributes of the last call. A span that has ended before its stream ends gets nothing.
//
// # Cost
//
// This package imports gRPC, also for a program that has only HTTP calls. Package rollcallotel does not.
//
// Counting a call does not allocate. Finding the instance of a unary call takes 8 allocations of 270 bytes in total: see
// [github.com/rollcall-go/rollcall/grpcx.WithServed]. A call without interceptors takes 143 allocations of 8.8 kB
// (go test -run '^$' -bench . ./rollcallotel/callotel).
package callotel
