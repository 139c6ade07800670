package choose

import (
	"fmt"

	"github.com/rollcall-go/rollcall/registry"
)

// EmptyReason is the text of calls that fail because the client has no instance to use: none is registered, or none matches the query (tags,
// version, metadata), passes, or has the endpoint.
func (s *State) EmptyReason(selection Selection) string {
	why := s.watchErr
	switch {
	case s.grace != nil:
		why = fmt.Sprintf("no instance is registered; the connections to the last %d are used for up to %v", len(s.used.Use), s.Rules.EmptyGrace)
	case why != "":
	case selection.Drained > 0 && selection.Passing == 0:
		why = fmt.Sprintf("all %d instances are in maintenance, or have weight 0", selection.Drained)
	case selection.Passing > 0:
		why = fmt.Sprintf("none of the passing instances has an endpoint %q", s.Rules.Endpoint)
	default:
		why = "no passing instance is registered"
	}
	return fmt.Sprintf("%s: %s", s.ServiceInRegistry(), why)
}

// UnreachableReason is the text of calls that fail because there is no connection to any instance, and none may be dialled.
func (s *State) UnreachableReason() string {
	return s.ServiceInRegistry() + ": no instance passes, and a broken connection is made again only when its instance passes"
}

// ServiceInRegistry names the service and the registry.
func (s *State) ServiceInRegistry() string {
	if s.Registry != "" {
		return fmt.Sprintf("service %q in %s", s.Rules.Query.Service, s.Registry)
	}
	return fmt.Sprintf("service %q", s.Rules.Query.Service)
}

// RegistryName returns the name of d, or "" if it has none.
func RegistryName(d registry.Discovery) string {
	if s, ok := d.(fmt.Stringer); ok {
		return s.String()
	}
	return ""
}
