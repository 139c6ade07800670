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

// prepare returns a copy of in that is complete and valid, as drivers are given it. Where this host has no network yet, it waits
// for one as for the registry.
func (r *Registry) prepare(ctx, opCtx context.Context, op string, in Instance) (out *Instance, err error) {
	err = r.retry(ctx, opCtx, op, in.Service, in.ID, func(ctx context.Context) (err error) {
		out, err = r.complete(ctx, in)
		return err
	})
	return out, err
}

func (r *Registry) complete(ctx context.Context, in Instance) (*Instance, error) {
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
			facing, ok := r.facingHost(ctx, host, remote)
			if !ok {
				return "", fmt.Errorf("%w: %s: %q is a wildcard, and this host has no address yet to put in its place, with which to reach the registry at %s",
					ErrUnavailable, field, address, remote)
			}
			return net.JoinHostPort(facing, port), nil
		case isLoopback(host) && !r.onThisHost(ctx, remote):
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
// wildcard tells which family the listener has: "0.0.0.0" is IPv4 alone. It reports false where there is none and the registry
// is elsewhere: nobody there could use an address that is good on this host alone.
func (r *Registry) facingHost(ctx context.Context, wildcard, remote string) (string, bool) {
	network := "udp"
	if wildcard == "0.0.0.0" {
		network = "udp4"
	}
	for _, to := range []string{remote, farIPv4, farIPv6} {
		if local, _, err := r.route(ctx, network, to); err == nil && !local.IsLoopback() {
			return local.String(), true
		}
	}
	if host, _, err := net.SplitHostPort(remote); err == nil && !isLoopback(host) {
		return "", false
	}
	if network == "udp4" || wildcard == "" {
		return "127.0.0.1", true // a host without a network: its services can still find one another
	}
	return "::1", true
}

// onThisHost reports whether the registry at remote is in this process or on this host, and true where nobody knows.
func (r *Registry) onThisHost(ctx context.Context, remote string) bool {
	host, _, err := net.SplitHostPort(remote)
	if err != nil || isLoopback(host) {
		return true
	}
	local, peer, err := r.route(ctx, "udp", remote)
	return err != nil || local == peer
}

// router returns both ends of the route to a host:port.
type router func(ctx context.Context, network, to string) (local, peer netip.Addr, err error)

// route is a router that asks the system.
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
