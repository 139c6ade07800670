package httpx

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"

	"github.com/rollcall-go/rollcall/internal/failure"
	"github.com/rollcall-go/rollcall/registry"
)

// op is the operation that errors name.
const op = "request"

// failed returns err as the error of a request to service.
func failed(service string, err error) error { return failure.New(op, service, err) }

// connectError says that there was no connection, so nothing was sent.
type connectError struct{ err error }

// Error implements error.
func (e *connectError) Error() string { return e.err.Error() }

// Unwrap returns the reason.
func (e *connectError) Unwrap() error { return e.err }

var (
	errLeft       = errors.New("the instance has left")
	errNotDialled = errors.New("the instance does not pass, and is not dialled")
)

// checkRequest refuses requests that a RoundTripper cannot send.
func checkRequest(req *http.Request) error {
	switch {
	case req.URL == nil:
		return fmt.Errorf("%w: Request.URL is required", registry.ErrInvalid)
	case req.URL.Scheme != "http" && req.URL.Scheme != "https":
		return fmt.Errorf("%w: Request.URL: scheme %q is neither http nor https", registry.ErrInvalid, req.URL.Scheme)
	case req.Header == nil:
		return fmt.Errorf("%w: Request.Header is required", registry.ErrInvalid)
	}
	return nil
}

// isValid reports whether net/http sends req. It is called before a request is sent again: that would fail in the same way.
func isValid(req *http.Request) bool {
	for _, header := range []http.Header{req.Header, req.Trailer} {
		for name, values := range header {
			if !validHeader(name, values) {
				return false
			}
		}
	}
	return validHeader(cmp.Or(req.Method, http.MethodGet), nil)
}

func validHeader(name string, values []string) bool {
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c >= 0x7f {
			return false
		}
	}
	for _, v := range values {
		for i := range len(v) {
			if c := v[i]; c < ' ' && c != '\t' || c == 0x7f {
				return false
			}
		}
	}
	return name != ""
}
