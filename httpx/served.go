package httpx

import (
	"context"
	"sync/atomic"

	"github.com/rollcall-go/rollcall/registry"
)

// Served tells which instance has served a request. Use it for one request at a time. It is safe for concurrent use.
type Served struct {
	outer    *Served // of the parent context; may be nil
	instance atomic.Pointer[registry.Instance]
}

// WithServed returns a context for one request by a [Transport], and a Served that will know which instance the request went to.
//
//	ctx, served := httpx.WithServed(ctx)
//	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://greeter/hello", nil)
//	resp, err := client.Do(req)
//	log.Print(served.Instance())
//
// An application and its middleware may both use it for the same request: each gets an answer.
func WithServed(ctx context.Context) (context.Context, *Served) {
	s := &Served{outer: servedIn(ctx)}
	return context.WithValue(ctx, servedKey{}, s), s
}

type servedKey struct{}

// servedIn returns the innermost Served in ctx, or nil.
func servedIn(ctx context.Context) *Served {
	s, _ := ctx.Value(servedKey{}).(*Served)
	return s
}

// Instance returns the instance that the request went to, or the last instance that was tried if there was no response. It is known when
// RoundTrip, or the method of http.Client, has returned; after a redirect it is the instance of the last request. The instance is shared: do
// not change it. Instance returns nil before that, and if no instance was tried.
func (s *Served) Instance() *registry.Instance { return s.instance.Load() }

// set records the instance in s and in all outer ones.
func (s *Served) set(in *registry.Instance) {
	for ; s != nil; s = s.outer {
		s.instance.Store(in)
	}
}
