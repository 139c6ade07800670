package p2c

import (
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/internal/load"
)

// verdict judges the server by the end of a call: see "Calls that fail" in the doc of this package.
func verdict(info balancer.DoneInfo) load.Judgement {
	if info.Err == nil {
		if !info.BytesReceived { // the connection was lost before the call began
			return load.Unknown
		}
		return load.Works
	}
	switch status.Code(info.Err) {
	case codes.Unknown, codes.Internal, codes.Unavailable, codes.DataLoss, codes.Unimplemented, codes.ResourceExhausted:
		return load.AtFault
	case codes.Canceled, codes.DeadlineExceeded: // latency and outstanding calls already account for a missing answer
		return load.Unknown
	default:
		return load.Works
	}
}
