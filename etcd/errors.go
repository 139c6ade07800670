package etcd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/registry"
)

// callError is the failure of one call. It keeps the words of etcd but not the error that held them: a gRPC status would
// leak from here into the answers of a gRPC server that passes errors on.
type callError struct {
	kind error
	gone bool // the entry or the lease does not exist
	text string
}

func (e *callError) Error() string { return e.kind.Error() + ": " + e.text }
func (e *callError) Unwrap() error { return e.kind }

// isGone reports whether err says that the entry or the lease does not exist.
func isGone(err error) bool {
	var e *callError
	return errors.As(err, &e) && e.gone
}

// maxWords bounds what an error quotes.
const maxWords = 300

// deadlineSkew is how much earlier than here a deadline may pass at the server.
const deadlineSkew = 10 * time.Millisecond

// ofSocket matches what names one connection: without it, one outage has one text.
var ofSocket = regexp.MustCompile(`(read|write) tcp \S+->\S+: `)

// classify turns the error of a call made under ctx, with a limit of its own, into one of the kinds of package registry.
// The error of ctx is returned as it is where that ended the call.
func (d *driver) classify(ctx context.Context, what string, limit time.Duration, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var known *callError
	if errors.As(err, &known) {
		return err
	}
	st := status.Convert(err)
	// A server is told the deadline, and its answer to that may come a moment before the caller's own timer goes off.
	if end, ok := ctx.Deadline(); ok && st.Code() == codes.DeadlineExceeded && time.Until(end) < deadlineSkew {
		return context.DeadlineExceeded
	}
	text := st.Message()
	switch {
	case errors.Is(err, io.EOF):
		text = "etcd ended the stream"
	case st.Code() == codes.DeadlineExceeded, errors.Is(err, context.DeadlineExceeded):
		text = fmt.Sprintf("no answer within %v", limit)
	}
	return d.failure(kindOf(st), what, text, says(err, rpctypes.ErrGRPCLeaseNotFound))
}

// kindOf tells what st means for whoever asked.
func kindOf(st *status.Status) error {
	switch {
	case stale(st.Err()):
		return registry.ErrUnavailable // the next attempt fetches another token
	case says(st.Err(), rpctypes.ErrGRPCAuthFailed), says(st.Err(), rpctypes.ErrGRPCUserEmpty),
		st.Code() == codes.PermissionDenied, st.Code() == codes.Unauthenticated:
		return registry.ErrDenied
	case st.Code() == codes.InvalidArgument,
		st.Code() == codes.ResourceExhausted && strings.Contains(st.Message(), "larger than max"):
		return registry.ErrInvalid
	}
	return registry.ErrUnavailable
}

// says reports whether err is the answer of etcd that known is.
func says(err, known error) bool {
	return err != nil && status.Convert(err).Message() == status.Convert(known).Message()
}

// stale reports whether err refuses a token that another one may replace.
func stale(err error) bool {
	return says(err, rpctypes.ErrGRPCInvalidAuthToken) || says(err, rpctypes.ErrGRPCAuthOldRevision)
}

// unavailable is the failure of a call whose answer is not to be used.
func (d *driver) unavailable(what, why string) error {
	return d.failure(registry.ErrUnavailable, what, why, false)
}

func (d *driver) failure(kind error, what, why string, gone bool) error {
	why = d.settings.scrub(ofSocket.ReplaceAllString(strings.Join(strings.Fields(why), " "), "")) // before a part of a secret is cut off
	if len(why) > maxWords {
		why = strings.ToValidUTF8(why[:maxWords], "") + "…"
	}
	return &callError{kind: kind, gone: gone, text: d.settings.scrub(fmt.Sprintf("%s: %s: %s", d.place(), what, why))}
}
