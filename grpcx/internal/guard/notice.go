// Package guard keeps a balancing policy from dialling instances that do not pass. A resolver sends restrictions with its endpoints, and a
// policy that is wrapped by [New] uses existing connections to restricted instances, but makes no new ones. The reason: if the connection
// to an instance broke while the instance did not pass, its address may belong to another service by now.
package guard

import (
	"sync/atomic"

	"google.golang.org/grpc/resolver"

	"github.com/rollcall-go/rollcall/internal/choose"
)

// Notice is what a resolver tells the policies about the endpoints of one state. It does not change once it is sent.
type Notice struct {
	Restrictions map[string]choose.Restriction // by address
	Why          string                        // the text of failing calls if there is no endpoint, or none that is connected or may be dialled
	// Redial asks for an immediate attempt to connect to every endpoint whose last attempt failed, without waiting for the end of its backoff.
	// ClientConn.ResetConnectBackoff must not be used for this: up to gRPC v1.85.0 it iterates over a map that gRPC changes meanwhile.
	Redial bool

	heeded atomic.Bool
}

// Heeded reports whether a policy that is wrapped by [New] has received n.
func (n *Notice) Heeded() bool { return n.heeded.Load() }

type noticeKey struct{}

// Set returns s with n.
func Set(s resolver.State, n *Notice) resolver.State {
	s.Attributes = s.Attributes.WithValue(noticeKey{}, n)
	return s
}

// From returns the notice in s, or nil.
func From(s resolver.State) *Notice {
	n, _ := s.Attributes.Value(noticeKey{}).(*Notice)
	return n
}
