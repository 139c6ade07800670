package registry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

// prepare returns a copy of in that is complete and valid, as drivers are given it.
func (r *Registry) prepare(ctx context.Context, in Instance) (*Instance, error) {
	if err := in.Validate(); err != nil {
		return nil, err
	}
	out := in.Clone()
	// Backends differ in whether they can tell empty from nil, and an unset weight from 1: none of them has to.
	if len(out.Endpoints) == 0 {
		out.Endpoints = nil
	}
	if len(out.Tags) == 0 {
		out.Tags = nil
	}
	if len(out.Metadata) == 0 {
		out.Metadata = nil
	}
	if out.Weight == 0 {
		out.Weight = 1
	}
	if err := r.fillHosts(ctx, out); err != nil {
		return nil, err
	}
	if out.ID == "" {
		host, port, _ := net.SplitHostPort(out.Address)
		out.ID = out.Service + "-" + host + "-" + port
	}
	return out, checkName("ID", out.ID, maxID, ":")
}

// fillHosts replaces wildcard hosts, and refuses loopback ones that nobody could dial.
func (r *Registry) fillHosts(ctx context.Context, in *Instance) error {
	var remote string
	if l, ok := r.driver.(Locator); ok {
		remote = l.Locate()
	}
	replace := func(field, address string) (string, error) {
		host, port, _ := net.SplitHostPort(address)
		ip, err := netip.ParseAddr(host)
		switch {
		case host == "" || err == nil && ip.IsUnspecified():
			facing, err := facingHost(ctx, host, remote)
			if err != nil {
				return "", fmt.Errorf("%w: %s: %q is a wildcard, and this host has no address to put in its place", ErrInvalid, field, address)
			}
			return net.JoinHostPort(facing, port), nil
		case isLoopback(host) && !onThisHost(ctx, remote):
			return "", fmt.Errorf("%w: %s: %q is a loopback address, which nobody else can dial, and the registry is on another host, %s",
				ErrInvalid, field, address, remote)
		}
		return address, nil
	}
	var err error
	if in.Address, err = replace("Address", in.Address); err != nil {
		return err
	}
	for name, address := range in.Endpoints {
		if in.Endpoints[name], err = replace(fmt.Sprintf("Endpoints[%q]", name), address); err != nil {
			return err
		}
	}
	return nil
}

// Addresses of the documentation ranges (RFC 5737, RFC 3849): they are routed like any other far away host, and nobody
// has them.
const (
	farIPv4 = "192.0.2.1:9"
	farIPv6 = "[2001:db8::1]:9"
)

// facingHost returns the address of this host from which it reaches the registry at remote or, where that is on this
// host or not known, the rest of the world. Connecting a UDP socket asks the kernel's routing table and sends nothing.
// wildcard tells which family the listener has: "0.0.0.0" is IPv4 alone.
func facingHost(ctx context.Context, wildcard, remote string) (string, error) {
	network := "udp"
	if wildcard == "0.0.0.0" {
		network = "udp4"
	}
	for _, to := range []string{remote, farIPv4, farIPv6} {
		if local, _, err := route(ctx, network, to); err == nil && !local.IsLoopback() {
			return local.String(), nil
		}
	}
	if network == "udp4" || wildcard == "" {
		return "127.0.0.1", nil // a host without a network: its services can still find one another
	}
	return "::1", nil
}

// onThisHost reports whether the registry at remote is in this process or on this host, and true where nobody knows.
func onThisHost(ctx context.Context, remote string) bool {
	host, _, err := net.SplitHostPort(remote)
	if err != nil || isLoopback(host) {
		return true
	}
	local, peer, err := route(ctx, "udp", remote)
	return err != nil || local == peer
}

// route returns both ends of the route to a host:port.
func route(ctx context.Context, network, to string) (local, peer netip.Addr, err error) {
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

func isLoopback(host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().IsLoopback()
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}
