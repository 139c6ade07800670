package registry

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// Openers maps a URL scheme to the backend that opens it: the whole of 'swap the backend by configuration'. What a
// binary can open is written in one place of it:
//
//	openers := registry.Openers{"consul": consul.Open, "memory": memory.Open}
//	reg, err := openers.Open(ctx, os.Getenv("REGISTRY_URL"))
type Openers map[string]func(ctx context.Context, u *url.URL) (*Registry, error)

// Open opens the registry that rawURL names, such as consul://127.0.0.1:8500/?dc=dc1. The caller closes it.
//
// Whether ctx matters depends on the backend: ours do no I/O here. The error wraps [ErrInvalid]: it names the schemes
// that are known for one that is not, and each unknown or malformed parameter. It never holds rawURL itself, which may
// carry a password or a token. Safe for concurrent use as long as o does not change.
func (o Openers) Open(ctx context.Context, rawURL string) (*Registry, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		// The text of url.Parse quotes the URL, and even its inner error may quote a part of the password.
		return nil, &Error{Op: "open", Err: fmt.Errorf("%w: URL: it cannot be parsed (not shown, since it may hold a secret); "+
			"it takes the form scheme://[user:password@]host:port/?parameter=value, with reserved characters in it percent-encoded", ErrInvalid)}
	}
	open, ok := o[u.Scheme]
	if !ok && !strings.HasPrefix(strings.ToLower(rawURL), u.Scheme+"://") {
		// user:password@host parses, with the user for a scheme.
		return nil, &Error{Op: "open", Err: fmt.Errorf("%w: URL: it starts with none of the schemes that this program can open, followed by ://: %s",
			ErrInvalid, o.schemes())}
	}
	if !ok {
		return nil, &Error{Op: "open", Err: fmt.Errorf("%w: URL: scheme %q is none of those that this program can open: %s",
			ErrInvalid, u.Scheme, o.schemes())}
	}
	r, err := open(ctx, u)
	if err != nil {
		return nil, &Error{Op: "open", Err: err}
	}
	return r, nil
}

func (o Openers) schemes() string {
	if len(o) == 0 {
		return "(none)"
	}
	return strings.Join(slices.Sorted(maps.Keys(o)), ", ")
}
