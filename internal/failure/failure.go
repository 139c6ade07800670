// Package failure makes the errors of packages outside of registry: each is a *registry.Error on one line.
package failure

import (
	"strings"

	"github.com/rollcall-go/rollcall/registry"
)

// New returns err as the error of an operation. service may be empty. The text has one line and one prefix, also if err has several
// lines or is itself a *registry.Error.
func New(op, service string, err error) error {
	return &registry.Error{Op: op, Service: service, Err: oneLine{err}}
}

// oneLine is an error whose text is on one line and has no prefix.
type oneLine struct{ error }

var replacer = strings.NewReplacer("rollcall: ", "", "\n", "; ")

// Error implements error.
func (e oneLine) Error() string { return replacer.Replace(e.error.Error()) }

// Unwrap lets [errors.Is] and [errors.As] find the errors inside.
func (e oneLine) Unwrap() error { return e.error }
