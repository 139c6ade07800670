package advertise

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"time"
)

// Addresses from the documentation ranges (RFC 5737, RFC 3849): they are routed like any other remote host, and no host has them.
const (
	farIPv4 = "192.0.2.1:9"
	farIPv6 = "[2001:db8::1]:9"
)

// Router returns both ends of the route to a host:port.
type Router func(ctx context.Context, network, to string) (local, peer netip.Addr, err error)

// Route is a Router that asks the system. Connecting a UDP socket asks the kernel's routing table and sends nothing.
func Route(ctx context.Context, network, to string) (local, peer netip.Addr, err error) {
	if to == "" {
		return local, peer, errors.New("no destination")
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second) // a host name may have to be looked up
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, network, to)
	if err != nil {
		return local, peer, err
	}
	defer conn.Close()
	l, p := conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr(), conn.RemoteAddr().(*net.UDPAddr).AddrPort().Addr()
	return l.Unmap().WithZone(""), p.Unmap().WithZone(""), nil
}

// LocalHost returns the local address used to reach the registry at remote. If the registry is on this host, or its place is not known,
// LocalHost returns the address of the default route. wildcard tells the family of the listener: "0.0.0.0" is IPv4 only.
//
// It reports false if this host has no such address and the registry is on another host, since an address that only works on this host
// would be useless there.
func (route Router) LocalHost(ctx context.Context, wildcard, remote string) (string, bool) {
	network := "udp"
	if wildcard == "0.0.0.0" {
		network = "udp4"
	}
	for _, to := range []string{remote, farIPv4, farIPv6} {
		if local, _, err := route(ctx, network, to); err == nil && !local.IsLoopback() {
			return local.String(), true
		}
	}
	if host, _, err := net.SplitHostPort(remote); err == nil && !IsLoopback(host) {
		return "", false
	}
	if network == "udp4" || wildcard == "" {
		return "127.0.0.1", true // a host without a network: its services can still find one another
	}
	return "::1", true
}

// OnThisHost reports whether the registry at remote is in this process or on this host. It reports true if that cannot be found out.
func (route Router) OnThisHost(ctx context.Context, remote string) bool {
	host, _, err := net.SplitHostPort(remote)
	if err != nil || IsLoopback(host) {
		return true
	}
	local, peer, err := route(ctx, "udp", remote)
	return err != nil || local == peer
}

// IsLoopback reports whether host is an address that only processes on the same host can dial.
func IsLoopback(host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().IsLoopback()
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}
