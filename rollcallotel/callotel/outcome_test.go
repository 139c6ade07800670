package callotel

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/registry"
)

func TestGRPCOutcome_NamesStatus(t *testing.T) {
	for _, c := range []struct {
		err  error
		want outcome
	}{
		{nil, outcome{grpc: "OK"}},
		{status.Error(codes.Unavailable, "down"), outcome{grpc: "UNAVAILABLE", failure: "UNAVAILABLE"}},
		{status.Error(codes.Unauthenticated, "who"), outcome{grpc: "UNAUTHENTICATED", failure: "UNAUTHENTICATED"}},
		{status.Error(codes.Code(4242), "odd"), outcome{grpc: "_OTHER", failure: "_OTHER"}},
		{fmt.Errorf("interceptor: %w", context.Canceled), outcome{grpc: "CANCELLED", failure: "CANCELLED"}},
		{context.DeadlineExceeded, outcome{grpc: "DEADLINE_EXCEEDED", failure: "DEADLINE_EXCEEDED"}},
		{errors.New("interceptor"), outcome{grpc: "UNKNOWN", failure: "UNKNOWN"}},
	} {
		if got := grpcOutcome(c.err); got != c.want {
			t.Errorf("the outcome of %v is %+v, want %+v", c.err, got, c.want)
		}
	}
}

// TestGRPCNames_AgreeWithGRPC reads each name with gRPC's own parser.
func TestGRPCNames_AgreeWithGRPC(t *testing.T) {
	for code, name := range grpcNames {
		var parsed codes.Code
		if err := parsed.UnmarshalJSON(fmt.Appendf(nil, "%q", name)); err != nil || int(parsed) != code {
			t.Errorf("%q is code %d (%v), want %d", name, parsed, err, code)
		}
	}
}

func TestHTTPOutcome_NamesStatusAndError(t *testing.T) {
	unreachable := fmt.Errorf("dial tcp 10.9.8.7:80: %w", registry.ErrUnavailable)
	for _, c := range []struct {
		status int
		err    error
		want   outcome
	}{
		{200, nil, outcome{http: 200}},
		{302, nil, outcome{http: 302}},
		{404, nil, outcome{http: 404, failure: "404"}},
		{503, nil, outcome{http: 503, failure: "503"}},
		{200, context.Canceled, outcome{http: 200, failure: "canceled"}},
		{0, unreachable, outcome{failure: "unavailable"}},
		{0, errors.New("refused"), outcome{failure: "_OTHER"}},
		{0, nil, outcome{failure: "_OTHER"}},
		{999, nil, outcome{failure: "_OTHER"}},
	} {
		if got := httpOutcome(c.status, c.err); got != c.want {
			t.Errorf("the outcome of %d and %v is %+v, want %+v", c.status, c.err, got, c.want)
		}
	}
}
