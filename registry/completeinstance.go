package registry

import (
	"context"
	"net"
)

// prepare returns a complete and valid copy of in, for a driver. If this host has no network yet, it retries until it has.
func (r *Registry) prepare(ctx, opCtx context.Context, in Instance) (out *Instance, err error) {
	err = r.retry(ctx, opCtx, "register", in.Service, in.ID, func(ctx context.Context) (err error) {
		out, err = r.complete(ctx, in)
		return err
	})
	return out, err
}

func (r *Registry) complete(ctx context.Context, in Instance) (*Instance, error) {
	out, err := normalize(in)
	if err != nil {
		return nil, err
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

// normalize returns a valid copy of in. Empty maps and slices become nil and an unset weight becomes 1, so that no backend has to tell
// them apart.
func normalize(in Instance) (*Instance, error) {
	if err := in.Validate(); err != nil {
		return nil, err
	}
	out := in.Clone()
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
	return out, nil
}
