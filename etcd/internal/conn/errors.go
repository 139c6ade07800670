package conn

import (
	"cmp"
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

	"github.com/rollcall-go/rollcall/internal/scrub"
	"github.com/rollcall-go/rollcall/registry"
)

// callError is the failure of one call. It has the text of etcd but does not wrap the gRPC error: a gRPC server that returns the error to its
// own clients would pass the status on.
type callError struct {
	kind error
	text string
	// At most one of these is set: see the functions that report them.
	gone, refused, malformed, tooLarge bool
}

func (e *callError) Error() string { return e.kind.Error() + ": " + e.text }
func (e *callError) Unwrap() error { return e.kind }

// IsGone reports whether err says that the entry or the lease does not exist.
func IsGone(err error) bool {
	var e *callError
	return errors.As(err, &e) && e.gone
}

// IsRefused reports whether err says that etcd takes no writes for now, so that nothing was written.
func IsRefused(err error) bool {
	var e *callError
	return errors.As(err, &e) && e.refused
}

// IsMalformed reports whether err says that no etcd gives such an answer.
func IsMalformed(err error) bool {
	var e *callError
	return errors.As(err, &e) && e.malformed
}

// IsUnsent reports whether err, which a client has returned, says that the call was not sent since no member is connected.
func IsUnsent(err error) bool { return errors.As(err, new(*unsentError)) }

// IsTooLarge reports whether err says that an answer was larger than MaxMessage.
func IsTooLarge(err error) bool {
	var e *callError
	return errors.As(err, &e) && e.tooLarge
}

// deadlineSkew is how much earlier a deadline may pass at the server than here.
const deadlineSkew = 10 * time.Millisecond

// ofSocket matches the addresses of one connection. Without them, all failures of an outage have the same text.
var ofSocket = regexp.MustCompile(`(read|write) tcp \S+->\S+: `)

// Classify turns the error of a call made with ctx, and with a limit of its own, into one of the kinds of package registry. If ctx ended the
// call, the result wraps the error of ctx. If that is a deadline, the text says what the call was waiting for.
func (c *Conn) Classify(ctx context.Context, what string, limit time.Duration, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return c.waited(ctx.Err(), what)
	}
	var known *callError
	if errors.As(err, &known) {
		return err
	}
	st := status.Convert(err)
	// The server knows the deadline, and may report it shortly before the timer of the caller expires.
	if end, ok := ctx.Deadline(); ok && st.Code() == codes.DeadlineExceeded && time.Until(end) < deadlineSkew {
		return c.waited(context.DeadlineExceeded, what)
	}
	text := st.Message()
	large := exceedsMaxMessage(st)
	switch {
	case large:
		text = fmt.Sprintf("the answer is larger than %d MiB", MaxMessage>>20)
	case errors.Is(err, io.EOF):
		text = "etcd ended the stream"
	case st.Code() == codes.DeadlineExceeded, errors.Is(err, context.DeadlineExceeded):
		text = fmt.Sprintf("no answer within %v", limit)
	}
	if isForeign(st) {
		text += foreignHint
	}
	failed := c.failure(kindOf(st), what, text, Says(err, rpctypes.ErrGRPCLeaseNotFound))
	failed.tooLarge = large
	var bad *malformedError
	failed.malformed = errors.As(err, &bad)
	failed.refused = Says(err, rpctypes.ErrGRPCNoSpace) || Says(err, rpctypes.ErrGRPCRequestTooManyRequests)
	return failed
}

// waited returns err, the error of the caller's context. If that is a deadline, it adds what the call was waiting for.
func (c *Conn) waited(err error, what string) error {
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	text := cmp.Or(c.reach.failure(), "no answer yet")
	return fmt.Errorf("%w; waited for this: %s", err, c.failure(registry.ErrUnavailable, what, text, false).text)
}

// exceedsMaxMessage reports whether gRPC refused an answer as too large. If a request is too large for etcd, the text is the same with another
// limit.
func exceedsMaxMessage(st *status.Status) bool {
	text := st.Message()
	return st.Code() == codes.ResourceExhausted && (strings.HasSuffix(text, fmt.Sprintf("vs. %d)", MaxMessage)) ||
		strings.Contains(text, fmt.Sprintf("after decompression larger than max %d", MaxMessage)))
}

// foreignHint follows the text of an answer that is foreign.
const foreignHint = " (this is no answer of etcd: a proxy or gateway before it answered)"

// isForeign reports whether a call was answered by HTTP without gRPC, as by the page of a gateway. gRPC makes a code of the HTTP status:
// 403 becomes PermissionDenied, although etcd has refused nothing.
func isForeign(st *status.Status) bool {
	return st.Code() != codes.OK && strings.HasPrefix(st.Message(), "unexpected HTTP status code received from server: ")
}

// kindOf returns the kind of error that st is for the caller.
func kindOf(st *status.Status) error {
	switch {
	case isForeign(st):
		return registry.ErrUnavailable
	case Stale(st.Err()):
		return registry.ErrUnavailable // the next attempt fetches another token
	case Says(st.Err(), rpctypes.ErrGRPCAuthFailed), Says(st.Err(), rpctypes.ErrGRPCUserEmpty),
		st.Code() == codes.PermissionDenied, st.Code() == codes.Unauthenticated:
		return registry.ErrDenied
	case exceedsMaxMessage(st):
		return registry.ErrUnavailable
	case st.Code() == codes.InvalidArgument,
		st.Code() == codes.ResourceExhausted && strings.Contains(st.Message(), "larger than max"):
		return registry.ErrInvalid
	}
	return registry.ErrUnavailable
}

// Says reports whether err is the error of etcd that known is.
func Says(err, known error) bool {
	return err != nil && status.Convert(err).Message() == status.Convert(known).Message()
}

// Stale reports whether err refuses a token, so that the call may succeed with another one.
func Stale(err error) bool {
	return Says(err, rpctypes.ErrGRPCInvalidAuthToken) || Says(err, rpctypes.ErrGRPCAuthOldRevision)
}

// Unavailable returns the failure of a call whose answer must not be used. why is the reason.
func (c *Conn) Unavailable(what, why string) error {
	return c.Failure(registry.ErrUnavailable, what, why)
}

// Failure returns the failure of a call, which wraps kind.
func (c *Conn) Failure(kind error, what, why string) error { return c.failure(kind, what, why, false) }

// Gone returns the failure of a call because the entry or the lease does not exist.
func (c *Conn) Gone(what, why string) error {
	return c.failure(registry.ErrUnavailable, what, why, true)
}

// scrub removes the password from a text of another program.
func (c *Conn) scrub(text string) string { return scrub.Text(text, c.Password.Reveal()) }

func (c *Conn) failure(kind error, what, why string, gone bool) *callError {
	why = scrub.Line(c.scrub(ofSocket.ReplaceAllString(why, ""))) // secrets first: the cut could leave half of one
	return &callError{kind: kind, gone: gone, text: c.scrub(fmt.Sprintf("%s: %s: %s", c.Place(), what, why))}
}
