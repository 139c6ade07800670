// Package fieldnames has the names of fields in the errors of package serve. Package grpcx serves through package serve, and its users
// must find the names of its own fields in the errors.
package fieldnames

import (
	"context"
	"fmt"
)

// Names are the names of what the caller of Serve has set.
type Names struct {
	Type     string                       // of the struct, such as "Service"
	Server   string                       // the argument of Serve that is the server
	Services string                       // the field with further services
	Listener func(endpoint string) string // the listener of a further endpoint
	Invalid  []error                      // faults that the caller of Serve has found itself, to be reported with the others
}

// Service are the names of a serve.Service.
var Service = Names{
	Type: "Service", Server: "srv", Services: "Services",
	Listener: func(endpoint string) string { return fmt.Sprintf("Endpoints[%q].Listener", endpoint) },
}

type key struct{}

// With returns a context for a Serve whose errors have names n.
func With(ctx context.Context, n Names) context.Context { return context.WithValue(ctx, key{}, n) }

// Of returns the names for a Serve with ctx.
func Of(ctx context.Context) Names {
	if n, ok := ctx.Value(key{}).(Names); ok {
		return n
	}
	return Service
}
