module github.com/rollcall-go/rollcall/grpcx/internal/picks

go 1.26.0

replace github.com/rollcall-go/rollcall => ../../..

require (
	github.com/cncf/xds/go v0.0.0-20260202195803-dba9d589def2
	github.com/rollcall-go/rollcall v0.0.0-00010101000000-000000000000
	google.golang.org/grpc v1.85.0
)

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/envoyproxy/protoc-gen-validate v1.3.3 // indirect
	golang.org/x/net v0.61.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20260817212433-ac3dfec99bb1 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)
