package callotel

import (
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/rollcallotel/internal/errortype"
)

// outcome is how a call ended. It has few possible values.
type outcome struct {
	grpc    string // the name of the status of a gRPC call; "" for an HTTP call
	http    int    // the status of an HTTP answer; 0 without an answer
	failure string // the value of error.type; "" for a call that succeeded
}

func (o outcome) attributes() (all []attribute.KeyValue) {
	if o.grpc != "" {
		all = append(all, keyGRPCStatus.String(o.grpc))
	}
	if o.http != 0 {
		all = append(all, keyHTTPStatus.Int(o.http))
	}
	if o.failure != "" {
		all = append(all, keyErrorType.String(o.failure))
	}
	return all
}

// grpcNames are the names of the codes, which codes.Code.String writes in another way.
var grpcNames = [...]string{
	codes.OK:                 "OK",
	codes.Canceled:           "CANCELLED",
	codes.Unknown:            "UNKNOWN",
	codes.InvalidArgument:    "INVALID_ARGUMENT",
	codes.DeadlineExceeded:   "DEADLINE_EXCEEDED",
	codes.NotFound:           "NOT_FOUND",
	codes.AlreadyExists:      "ALREADY_EXISTS",
	codes.PermissionDenied:   "PERMISSION_DENIED",
	codes.ResourceExhausted:  "RESOURCE_EXHAUSTED",
	codes.FailedPrecondition: "FAILED_PRECONDITION",
	codes.Aborted:            "ABORTED",
	codes.OutOfRange:         "OUT_OF_RANGE",
	codes.Unimplemented:      "UNIMPLEMENTED",
	codes.Internal:           "INTERNAL",
	codes.Unavailable:        "UNAVAILABLE",
	codes.DataLoss:           "DATA_LOSS",
	codes.Unauthenticated:    "UNAUTHENTICATED",
}

// grpcOutcome returns the outcome of a gRPC call that ended with err. A code that gRPC does not know, which a server may send, has no name.
func grpcOutcome(err error) outcome {
	o := outcome{grpc: errortype.Other}
	s, ok := status.FromError(err)
	if !ok { // an interceptor may return the error of a context
		s = status.FromContextError(err)
	}
	if code := int(s.Code()); code < len(grpcNames) {
		o.grpc = grpcNames[code]
	}
	if err != nil {
		o.failure = o.grpc
	}
	return o
}

// httpOutcome returns the outcome of an HTTP call.
func httpOutcome(code int, err error) outcome {
	switch {
	case code < 100 || code > 599:
		o := outcome{failure: errortype.Other}
		if code == 0 && err != nil {
			o.failure = errortype.Of(err)
		}
		return o
	case code >= 400:
		return outcome{http: code, failure: strconv.Itoa(code)}
	}
	return outcome{http: code, failure: errortype.Of(err)}
}
