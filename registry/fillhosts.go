package registry

import (
	"context"
	"fmt"
	"maps"
	"net"

	"github.com/rollcall-go/rollcall/internal/advertise"
)

// fillHosts replaces wildcard hosts by the rule of package advertise, and refuses loopback hosts that no other host could dial. If it
// returns an error, in is as it was.
func (r *Registry) fillHosts(ctx context.Context, in *Instance) error {
	remote := r.driver.Properties().Address
	routed := false // whether the result depends on routes, which need ctx
	replace := func(field, address string) (string, error) {
		host, port, _ := net.SplitHostPort(address)
		if advertise.IsWildcard(host) {
			configured, err := advertise.Environment()
			if err != nil {
				return "", fmt.Errorf("%w: %w", ErrInvalid, err)
			}
			if configured == "" {
				routed = true
				local, ok := r.route.LocalHost(ctx, host, remote)
				if !ok {
					return "", fmt.Errorf("%w: %s: %q is a wildcard, and this host has no address yet with which to reach the registry at %s",
						ErrUnavailable, field, address, remote)
				}
				return net.JoinHostPort(local, port), nil
			}
			host, address = configured, net.JoinHostPort(configured, port)
			if err := checkAddress(field, address); err != nil {
				return "", err
			}
		}
		if advertise.IsLoopback(host) {
			routed = true
			if !r.route.OnThisHost(ctx, remote) {
				return "", fmt.Errorf("%w: %s: %q is a loopback address, which no other host can dial, and the registry is on another host, %s",
					ErrInvalid, field, address, remote)
			}
		}
		return address, nil
	}
	address, err := replace("Address", in.Address)
	endpoints := maps.Clone(in.Endpoints)
	for name, a := range in.Endpoints {
		if err == nil {
			endpoints[name], err = replace(fmt.Sprintf("Endpoints[%q]", name), a)
		}
	}
	switch {
	case routed && ctx.Err() != nil: // the routes could not be asked, which looks like a host without a network
		return fmt.Errorf("%w: the address of this host is not known yet: %w", ErrUnavailable, ctx.Err())
	case err == nil:
		in.Address, in.Endpoints = address, endpoints
	}
	return err
}
