package registry

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// The kinds of failure. Every error of this package and of its backends wraps one of them, or the error of the context
// that ended the call. Use [errors.Is] to tell them apart.
var (
	// ErrClosed: the Registry was closed, or the registration deregistered.
	ErrClosed = errors.New("closed")
	// ErrInvalid: the input can never work, or the registry refuses its content. Trying again does not help.
	ErrInvalid = errors.New("invalid")
	// ErrDenied: the registry refuses the credentials, or they do not allow this.
	ErrDenied = errors.New("denied")
	// ErrUnavailable: the registry could not be reached or could not answer. Trying again may help.
	ErrUnavailable = errors.New("unavailable")
	// ErrUnsupported: this backend has no such operation.
	ErrUnsupported = errors.New("unsupported")
	// ErrReplaced: a newer registration has taken over the instance's ID. The older registration yields as long as the newer
	// entry exists, so that two processes that share an ID by mistake do not overwrite each other for ever.
	ErrReplaced = errors.New("replaced by a newer registration of the same ID")
	// ErrConflict: a condition of [PutOptions] is not met, so nothing was written.
	ErrConflict = errors.New("conflict")
)

// Error says which operation, on which service and instance, failed with Err.
type Error struct {
	// Op is register, renew (a registration that was lost), update, deregister, lookup, watch, services, open, close, watch value,
	// put value, or delete value.
	Op      string
	Service string // "" if there is none
	ID      string // "" if there is none
	Key     string // of a value; "" if there is none
	Err     error
}

// Error returns "rollcall: op service/id: err", with the key of a value in place of service and ID. Err has no secret in it, which drivers promise.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("rollcall: ")
	b.WriteString(e.Op)
	if e.Service != "" {
		b.WriteString(" ")
		b.WriteString(e.Service)
	}
	if e.ID != "" {
		b.WriteString("/")
		b.WriteString(e.ID)
	}
	if e.Key != "" {
		b.WriteString(" ")
		b.WriteString(strconv.Quote(e.Key))
	}
	b.WriteString(": ")
	b.WriteString(e.Err.Error())
	return b.String()
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// permanent reports whether trying the same again is no use.
func permanent(err error) bool {
	return errors.Is(err, ErrInvalid) || errors.Is(err, ErrDenied) || errors.Is(err, ErrUnsupported) || errors.Is(err, ErrClosed)
}

// classify makes sure that err wraps one of the kinds of failure, or the error of ctx if that ended the call.
func (r *Registry) classify(ctx context.Context, err error) error {
	switch {
	case r.ctx.Err() != nil:
		return ErrClosed
	case ctx.Err() != nil:
		// The driver's words say what it was waiting for, but not always that ctx was the reason.
		if errors.Is(err, ctx.Err()) {
			return r.unanswered(err)
		}
		return fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	for _, kind := range kinds {
		if errors.Is(err, kind) {
			return err
		}
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// unanswered adds the name of the registry to the bare error of a deadline. Without it, a short deadline hides that the registry did not
// answer.
func (r *Registry) unanswered(err error) error {
	if err != context.DeadlineExceeded {
		return err
	}
	return fmt.Errorf("%w; no answer from %s yet", err, r)
}

// kinds are the kinds of failure, the most telling first: an error may wrap several.
var kinds = []error{ErrClosed, ErrReplaced, ErrConflict, ErrInvalid, ErrDenied, ErrUnsupported, ErrUnavailable}

// kindOf returns the kind of failure that err wraps. It is ErrUnavailable for an error that wraps none.
func kindOf(err error) error {
	for _, kind := range kinds {
		if errors.Is(err, kind) {
			return kind
		}
	}
	return ErrUnavailable
}
