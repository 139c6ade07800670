package grpcx

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/rollcall-go/rollcall/registry"
)

// hostVariables hold the host to announce, as what starts a process in a container knows it: POD_IP is how the documentation
// of Kubernetes' downward API names it. The first one that is set counts.
var hostVariables = []string{"ROLLCALL_HOST", "POD_IP"}

// announced is the address of a listener as clients are to dial it. See Server.Instance for the rule. A host that stays empty
// or a wildcard is for Register to replace.
func (l *life) announced(address, field string, listener net.Addr) (string, error) {
	tcp, ok := listener.(*net.TCPAddr)
	if !ok {
		if address == "" {
			return "", fmt.Errorf("%w: Server.%s: is required, since that of its listener, %q, is none that clients could dial",
				registry.ErrInvalid, field, listener)
		}
		return address, nil
	}
	host, port := "", ""
	if address != "" {
		var err error
		if host, port, err = net.SplitHostPort(address); err != nil {
			return address, nil // Validate says what is wrong with it
		}
	}
	if port == "" || port == "0" {
		port = fmt.Sprint(tcp.Port)
	}
	if isWildcard(host) && len(tcp.IP) > 0 && !tcp.IP.IsUnspecified() {
		host = tcp.IP.String()
	}
	if isWildcard(host) {
		named, err := l.namedHost(tcp)
		if err != nil {
			return "", err
		}
		listens := ""
		if len(tcp.IP) > 0 {
			listens = tcp.IP.String() // which says whether that is IPv4 alone
		}
		host = cmp.Or(named, host, listens)
	}
	return net.JoinHostPort(host, port), nil
}

func isWildcard(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.IsUnspecified()
}

// namedHost is what the environment or the configuration gives for a listener on all addresses, "" where they give nothing.
func (l *life) namedHost(listener *net.TCPAddr) (string, error) {
	for _, name := range hostVariables {
		host := os.Getenv(name)
		if host == "" {
			continue
		}
		if _, _, err := net.SplitHostPort(net.JoinHostPort(host, "1")); err != nil || isWildcard(host) {
			return "", fmt.Errorf("%w: environment variable %s: %q is no host that clients could dial", registry.ErrInvalid, name, host)
		}
		return host, nil
	}
	if l.Interface == "" {
		return "", nil
	}
	host, err := hostOf(l.Interface, listener.IP.To4() != nil)
	if err != nil {
		return "", fmt.Errorf("%w: Server.Interface: %w", registry.ErrInvalid, err)
	}
	return host, nil
}

// hostOf returns an address of a network interface: of IPv4, or else and unless onlyIPv4 of IPv6. One that is valid on the
// link alone is left out, as clients would need to know the link.
func hostOf(name string, onlyIPv4 bool) (string, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return "", fmt.Errorf("%q: %w", name, err)
	}
	all, err := i.Addrs()
	if err != nil {
		return "", fmt.Errorf("%q: %w", name, err)
	}
	six := ""
	for _, a := range all {
		prefix, err := netip.ParsePrefix(a.String())
		ip := prefix.Addr().Unmap()
		switch {
		case err != nil || ip.IsLinkLocalUnicast() || ip.IsMulticast():
		case ip.Is4():
			return ip.String(), nil
		case !onlyIPv4:
			six = cmp.Or(six, ip.String())
		}
	}
	if six == "" {
		return "", fmt.Errorf("%q has no address that others could dial", name)
	}
	return six, nil
}
