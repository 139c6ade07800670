package agent

import (
	"net"
	"net/netip"
)

// UnixScheme begins the location of an agent on a Unix socket.
const UnixScheme = "unix://"

// Address is the address of an agent.
type Address struct {
	Scheme   string // http or https
	HostPort string // of a socket: only the name in the Host header
	Prefix   string // the path of a proxy before the path of Consul
	Socket   string // the path of a Unix socket
	// ip is dialled instead of the host, if the host is a name with several addresses. Otherwise it is invalid.
	ip netip.Addr
}

// dialled returns the address to connect to for hostPort: the one of a, or of a proxy.
func (a Address) dialled(hostPort string) string {
	if _, port, err := net.SplitHostPort(hostPort); err == nil && a.ip.IsValid() && hostPort == a.HostPort {
		return net.JoinHostPort(a.ip.String(), port)
	}
	return hostPort
}

// isOnThisHost reports whether the agent runs on this host, as far as its address tells.
func (a Address) isOnThisHost() bool {
	if a.Socket != "" {
		return true
	}
	host, _, _ := net.SplitHostPort(a.HostPort)
	ip, _ := netip.ParseAddr(host)
	return host == "localhost" || ip.IsLoopback() || a.ip.IsLoopback()
}

// Location returns the name of the agent in texts.
func (a Address) Location() string {
	if a.Socket != "" {
		return UnixScheme + a.Socket
	}
	return a.dialled(a.HostPort)
}
