// Package zonecounts tells a balancing policy how many instances a resolver has left out because they do not pass.
package zonecounts

import (
	"google.golang.org/grpc/resolver"

	"github.com/rollcall-go/rollcall/internal/choose"
)

type key struct{}

// Set returns s with z. If z is empty, it returns s.
func Set(s resolver.State, z choose.Zones) resolver.State {
	if len(z) > 0 {
		s.Attributes = s.Attributes.WithValue(key{}, z)
	}
	return s
}

// From returns the Zones in s, or nil.
func From(s resolver.State) choose.Zones {
	z, _ := s.Attributes.Value(key{}).(choose.Zones)
	return z
}
