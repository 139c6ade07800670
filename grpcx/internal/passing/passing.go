// Package passing is how a resolver tells a balancing policy of the instances that it left out because they do not pass.
package passing

import "google.golang.org/grpc/resolver"

// Zones counts the instances that a resolver knows of, by zone, without those that drain.
type Zones map[string]Count

// Count is of one zone.
type Count struct {
	Passing int
	Missing int // the resolver left them out
}

// Share returns which share of the instances passes, of those in the zones that in selects. It is 1 where z knows of none.
func (z Zones) Share(in func(zone string) bool) float64 {
	var sum Count
	for zone, c := range z {
		if in(zone) {
			sum.Passing += c.Passing
			sum.Missing += c.Missing
		}
	}
	if sum.Missing == 0 {
		return 1
	}
	return float64(sum.Passing) / float64(sum.Passing+sum.Missing)
}

type key struct{}

// Set returns s with z. None is left out.
func Set(s resolver.State, z Zones) resolver.State {
	if len(z) > 0 {
		s.Attributes = s.Attributes.WithValue(key{}, z)
	}
	return s
}

// From returns what Set has put into s.
func From(s resolver.State) Zones {
	z, _ := s.Attributes.Value(key{}).(Zones)
	return z
}
