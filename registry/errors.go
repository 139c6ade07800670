package registry

import (
	"errors"
	"strings"
)

// The kinds of failure. Every error of this package and of its backends wraps one of them, or the error of the context
// that ended the call; tell them apart with [errors.Is].
var (
	// ErrClosed: the Registry, or what it was asked to work on, was closed.
	ErrClosed = errors.New("closed")
	// ErrInvalid: the input can never work, or the registry refuses it for its content. Trying again is no use.
	ErrInvalid = errors.New("invalid")
	// ErrDenied: the registry refuses the credentials, or they do not allow this.
	ErrDenied = errors.New("denied")
	// ErrUnavailable: the registry could not be reached or could not answer. Trying again may help.
	ErrUnavailable = errors.New("unavailable")
	// ErrUnsupported: this backend cannot do it.
	ErrUnsupported = errors.New("unsupported")
	// ErrReplaced: a newer registration has taken the instance's ID over. The older one stands aside for as long as the
	// newer one's entry exists, so that two processes that share an ID by mistake do not overwrite each other for ever.
	ErrReplaced = errors.New("replaced by a newer registration of the same ID")
)

// Error says what was being done, to which service and instance, when Err happened.
type Error struct {
	Op      string // register, update, deregister, announce, keep, lookup, watch, services, open
	Service string // where there is one
	ID      string // where there is one
	Err     error
}

// Error returns "rollcall: op service/id: err". It holds no secret as long as Err holds none, which drivers promise.
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
