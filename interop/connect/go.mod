// The tests with connect-go, which importers of Rollcall are to get nothing of.
module github.com/rollcall-go/rollcall/interop/connect

go 1.26.0

require (
	connectrpc.com/connect v1.21.1
	github.com/rollcall-go/rollcall v0.0.0
	google.golang.org/protobuf v1.36.12
)

replace github.com/rollcall-go/rollcall => ../..
