package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// checkEtcdUser finds out whether etcd knows the user, and what the user may do. A user may see the own roles.
func (d *doctor) checkEtcdUser(ctx context.Context) finding {
	m := d.target.voter()
	user := d.target.etcd.Username
	err := m.login(ctx, d)
	switch {
	case says(err, rpctypes.ErrGRPCAuthNotEnabled):
		return warned(adviseOff, "authentication is off: user %s is not checked, and every client may find and register", user)
	case says(err, rpctypes.ErrGRPCAuthFailed), says(err, rpctypes.ErrGRPCInvalidAuthToken):
		return failed(adviseUser, "etcd does not accept user %s with this password", user)
	case err != nil:
		return failed(adviseUser, "user %s: %s", user, rpcReason(err))
	}
	if user == "" {
		return d.checkWithoutUser(ctx, m)
	}
	permissions, err := d.permissions(ctx, m)
	if err != nil {
		return skipped("user %s: unknown what it may do: %s", user, err)
	}
	service, named := d.service()
	if !named && d.f.noWrite {
		return passed("user %s; --service NAME tells about a service", user)
	}
	from, to := d.keysOf(service, named)
	var lacks string
	switch mayRead, mayWrite := covers(permissions, authpb.Permission_READ, from, to), covers(permissions, authpb.Permission_WRITE, from, to); {
	case !mayRead && !mayWrite:
		lacks = "neither read nor write"
	case !mayRead:
		lacks = "not read"
	case !mayWrite:
		lacks = "not write"
	default:
		return passed("user %s: its roles allow %s", user, d.allowedText())
	}
	advise := advisePermissions
	if !named {
		advise = advisePermissionsOrService
	}
	return failed(advise.with("readwrite", from), "user %s may %s %s", user, lacks, from)
}

// keysOf returns the range of the keys of a service, or of all throwaway services.
func (d *doctor) keysOf(service string, named bool) (from, to string) {
	from = d.target.etcd.Key(service, "")
	if !named {
		from = from[:len(from)-1] // services that begin with the name
	}
	end := []byte(from)
	end[len(end)-1]++
	return from, string(end)
}

// checkWithoutUser finds out whether etcd accepts calls without a user.
func (d *doctor) checkWithoutUser(ctx context.Context, m *member) finding {
	ctx, cancel := m.within(ctx)
	defer cancel()
	answer, err := pb.NewAuthClient(m.conn).AuthStatus(ctx, &pb.AuthStatusRequest{})
	switch {
	case err == nil && answer.Enabled, says(err, rpctypes.ErrGRPCUserEmpty):
		return failed(adviseUser, "etcd asks for a user, and the URL has none")
	case status.Code(err) == codes.Unimplemented:
		return skipped("unknown: this etcd does not tell whether authentication is on")
	case err != nil:
		return skipped("unknown: %s", rpcReason(err))
	}
	return passed("authentication is off: every client may find and register")
}

// permissions returns what the roles of the user allow. The role root allows everything.
func (d *doctor) permissions(ctx context.Context, m *member) ([]*authpb.Permission, error) {
	ctx, cancel := m.within(ctx)
	defer cancel()
	client := pb.NewAuthClient(m.conn)
	answer, err := client.UserGet(ctx, &pb.AuthUserGetRequest{Name: d.target.etcd.Username})
	if err != nil {
		return nil, errors.New(rpcReason(err))
	}
	if slices.Contains(answer.Roles, "root") {
		return []*authpb.Permission{{PermType: authpb.Permission_READWRITE, Key: []byte{0}, RangeEnd: []byte{0}}}, nil
	}
	var all []*authpb.Permission
	for _, role := range answer.Roles {
		one, err := client.RoleGet(ctx, &pb.AuthRoleGetRequest{Role: role})
		if err != nil {
			return nil, fmt.Errorf("role %s: %s", role, rpcReason(err))
		}
		all = append(all, one.Perm...)
	}
	return all, nil
}

// covers reports whether the permissions of that kind together cover all keys from from to to, without to.
func covers(permissions []*authpb.Permission, kind authpb.Permission_Type, from, to string) bool {
	var ranges [][2][]byte // the end is nil if there is none
	for _, p := range permissions {
		if p.PermType != kind && p.PermType != authpb.Permission_READWRITE {
			continue
		}
		end := p.RangeEnd
		switch {
		case len(end) == 0:
			end = append(slices.Clone(p.Key), 0) // the key alone
		case bytes.Equal(end, []byte{0}):
			end = nil
		}
		ranges = append(ranges, [2][]byte{p.Key, end})
	}
	slices.SortFunc(ranges, func(a, b [2][]byte) int { return bytes.Compare(a[0], b[0]) })
	reached := []byte(from)
	for _, r := range ranges {
		if bytes.Equal(r[0], []byte{0}) {
			r[0] = nil // the first key
		}
		switch {
		case bytes.Compare(r[0], reached) > 0:
		case r[1] == nil:
			return true
		case bytes.Compare(r[1], reached) > 0:
			reached = r[1]
		}
	}
	return bytes.Compare(reached, []byte(to)) >= 0
}
