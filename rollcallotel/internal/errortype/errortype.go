// Package errortype names kinds of errors by the values of the attribute error.type.
package errortype

import (
	"context"
	"errors"

	"github.com/rollcall-go/rollcall/registry"
)

// Other is the value of error.type for an error without a name, as the semantic conventions call it.
const Other = "_OTHER"

// kinds are the kinds of error with their names. The first that matches counts.
var kinds = []struct {
	kind error
	name string
}{
	{registry.ErrReplaced, "replaced"},
	{registry.ErrDenied, "denied"},
	{registry.ErrInvalid, "invalid"},
	{registry.ErrUnsupported, "unsupported"},
	{registry.ErrClosed, "closed"},
	{registry.ErrUnavailable, "unavailable"},
	{context.DeadlineExceeded, "timeout"},
	{context.Canceled, "canceled"},
}

// Of returns the value of error.type for err, or "" for nil. The text of err may have an address in it, so it is never used.
func Of(err error) string {
	if err == nil {
		return ""
	}
	for _, k := range kinds {
		if errors.Is(err, k.kind) {
			return k.name
		}
	}
	return Other
}
