package registry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// Openers maps a URL scheme to the backend that opens it, so that the backend is a matter of configuration. A program lists the
// backends that it can open in one place:
//
//	openers := registry.Openers{"consul": consul.Open, "memory": memory.Open}
//	reg, err := openers.Open(ctx, os.Getenv("REGISTRY_URL"))
type Openers map[string]func(ctx context.Context, u *url.URL) (*Registry, error)

// Open opens the registry that rawURL names, such as consul://127.0.0.1:8500/?dc=dc1. The caller closes it.
//
// Whether ctx matters depends on the backend: consul, etcd and memory do no I/O here. The error wraps [ErrInvalid] and names each
// unknown or malformed parameter, and the known schemes if the scheme is unknown. It never quotes rawURL, which may have a
// password or a token in it. Open is safe for concurrent use as long as o does not change.
func (o Openers) Open(ctx context.Context, rawURL string) (*Registry, error) {
	if rawURL == "" {
		return nil, &Error{Op: "open", Err: fmt.Errorf("%w: URL is empty; it takes the form scheme://host:port, with one of the schemes that this "+
			"program can open: %s", ErrInvalid, o.schemes())}
	}
	u, err := url.Parse(rawURL)
	if err != nil && !strings.Contains(rawURL, "://") {
		return nil, o.noScheme()
	}
	if err != nil {
		// The text of url.Parse quotes the URL, and even its inner error may quote a part of the password.
		return nil, &Error{Op: "open", Err: fmt.Errorf("%w: URL: it cannot be parsed (not shown, since it may contain a secret); "+
			"it takes the form scheme://[user:password@]host:port/?parameter=value, and in a user, a password, a token and other values "+
			"the characters / ? # @ : & ; + %% and blanks must be percent-encoded: %%2F %%3F %%23 %%40 %%3A %%26 %%3B %%2B %%25 %%20", ErrInvalid)}
	}
	open, ok := o[u.Scheme]
	if !ok && !strings.HasPrefix(strings.ToLower(rawURL), u.Scheme+"://") {
		// user:password@host parses, with the user for a scheme.
		return nil, o.noScheme()
	}
	if !ok {
		return nil, &Error{Op: "open", Err: fmt.Errorf("%w: URL: scheme %q is unknown; this program can open: %s",
			ErrInvalid, u.Scheme, o.schemes())}
	}
	r, err := open(ctx, u)
	var typed *Error
	if err != nil && !errors.As(err, &typed) {
		err = &Error{Op: "open", Err: err}
	}
	return r, err
}

// noScheme is the error for a URL such as 127.0.0.1:8500.
func (o Openers) noScheme() error {
	return &Error{Op: "open", Err: fmt.Errorf("%w: URL: it starts with none of the schemes that this program can open, followed by ://: %s",
		ErrInvalid, o.schemes())}
}

func (o Openers) schemes() string {
	if len(o) == 0 {
		return "(none)"
	}
	return strings.Join(slices.Sorted(maps.Keys(o)), ", ")
}
