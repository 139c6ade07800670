// Package advertise chooses the host that clients dial to reach a server. This rule is for all packages: if the host in the address of an
// instance is missing or a wildcard, it is replaced by the first of these that exists:
//
//   - the IP address of the listener, if the server listens on one address only;
//   - the environment variable ROLLCALL_HOST, or else POD_IP;
//   - the address of a network interface that the application names;
//   - the local address used to reach the registry.
//
// Package serve knows the listener and the interface, and package registry knows the registry. So serve leaves a wildcard if only the last
// step is left, and Register takes that step. Register also takes the second step, for applications that use it without serve.
package advertise

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"os"
)

// Variables name environment variables with the host to advertise, for processes in containers. The documentation of the downward API
// of Kubernetes uses POD_IP. The first variable that is set counts.
var Variables = []string{"ROLLCALL_HOST", "POD_IP"}

// Listener returns the address that clients dial to reach listener. given is the address that the application has set, if any. If only
// the registry can tell the host, the result has a wildcard host, which says whether the listener accepts IPv4 only.
func Listener(given string, listener *net.TCPAddr, card Interface) (string, error) {
	host, port := "", ""
	if given != "" {
		var err error
		if host, port, err = net.SplitHostPort(given); err != nil {
			return given, nil // Instance.Validate reports what is wrong with it
		}
	}
	if port == "" || port == "0" {
		port = fmt.Sprint(listener.Port)
	}
	if IsWildcard(host) && len(listener.IP) > 0 && !listener.IP.IsUnspecified() {
		host = listener.IP.String()
	}
	if IsWildcard(host) {
		configured, err := Environment()
		if err == nil && configured == "" && card.Name != "" {
			configured, err = card.address(listener.IP.To4() != nil)
		}
		if err != nil {
			return "", err
		}
		wildcard := ""
		if len(listener.IP) > 0 {
			wildcard = listener.IP.String()
		}
		host = cmp.Or(configured, host, wildcard)
	}
	return net.JoinHostPort(host, port), nil
}

// IsWildcard reports whether host means all addresses of a host.
func IsWildcard(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.IsUnspecified()
}

// Environment returns the host in the first of Variables that is set, or "".
func Environment() (string, error) {
	for _, name := range Variables {
		host := os.Getenv(name)
		if host == "" {
			continue
		}
		if _, _, err := net.SplitHostPort(net.JoinHostPort(host, "1")); err != nil || IsWildcard(host) {
			return "", fmt.Errorf("environment variable %s: %q is not a host that clients can dial", name, host)
		}
		return host, nil
	}
	return "", nil
}

// Interface is the network interface that an application names.
type Interface struct {
	Name  string // "" if none is named
	Field string // what the application calls the setting, for errors
}

// address returns the first IPv4 address of the interface, or else its first IPv6 address unless onlyIPv4 is set. It skips link-local
// addresses, since clients would need to know the link.
func (i Interface) address(onlyIPv4 bool) (string, error) {
	found, err := net.InterfaceByName(i.Name)
	if err != nil {
		return "", fmt.Errorf("%s: %q: %w", i.Field, i.Name, err)
	}
	all, err := found.Addrs()
	if err != nil {
		return "", fmt.Errorf("%s: %q: %w", i.Field, i.Name, err)
	}
	firstIPv6 := ""
	for _, a := range all {
		prefix, err := netip.ParsePrefix(a.String())
		ip := prefix.Addr().Unmap()
		switch {
		case err != nil || ip.IsLinkLocalUnicast() || ip.IsMulticast():
		case ip.Is4():
			return ip.String(), nil
		case !onlyIPv4:
			firstIPv6 = cmp.Or(firstIPv6, ip.String())
		}
	}
	if firstIPv6 == "" {
		return "", fmt.Errorf("%s: %q has no address that clients can dial", i.Field, i.Name)
	}
	return firstIPv6, nil
}
