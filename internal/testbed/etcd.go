//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package testbed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// EtcdOptions changes how an etcd is set up. The zero value is one with its defaults.
type EtcdOptions struct {
	// Args are further arguments, such as "--auth-token-ttl=5", which win over those of the testbed.
	Args []string
}

// Etcd is an etcd that is its own single member. It has the same cluster and member IDs after each Restart, also after
// one without its data: that is the restore that a client can not tell from a server that only went away for a while.
type Etcd struct {
	server
	name    string
	options EtcdOptions
	// The testbed's own calls are made as this user, where there is one.
	user, password string
}

// StartEtcd starts an etcd and blocks until it is ready; no more than one EtcdOptions may follow. It fails the test where
// that does not come to pass, and the etcd ends with the test.
func StartEtcd(tb testing.TB, o ...EtcdOptions) *Etcd {
	tb.Helper()
	if len(o) > 1 {
		tb.Fatalf("testbed: StartEtcd takes one EtcdOptions, not %d", len(o))
	}
	e := &Etcd{name: uniqueName(), options: append(o, EtcdOptions{})[0]}
	e.server = server{tb: tb, configure: e.configure, ready: e.ready}
	e.launch(&etcdProgram, 2)
	return e
}

func (e *Etcd) configure() ([]string, error) {
	clients, peers := "http://"+loopback(e.ports[0]), "http://"+loopback(e.ports[1])
	return append([]string{
		"--name=" + e.name,
		"--data-dir=" + e.dataDir(),
		"--listen-client-urls=" + clients,
		"--advertise-client-urls=" + clients,
		"--listen-peer-urls=" + peers,
		"--initial-advertise-peer-urls=" + peers,
		"--initial-cluster=" + e.name + "=" + peers,
	}, e.options.Args...), nil
}

// ready asks for a leader that is this very member, for a linearizable read, and for a write. The write is a lease, which
// leaves the revision of the store as it is.
func (e *Etcd) ready(ctx context.Context) error {
	var status struct {
		Header struct {
			MemberID string `json:"member_id"`
		}
		Leader string
	}
	if err := e.rpc(ctx, "/v3/maintenance/status", nil, &status); err != nil {
		return err
	}
	if status.Leader == "" || status.Leader != status.Header.MemberID {
		return errors.New("there is no leader")
	}
	var list struct{ Members []struct{ Name string } }
	if err := e.rpc(ctx, "/v3/cluster/member/list", nil, &list); err != nil {
		return err
	}
	if len(list.Members) != 1 || list.Members[0].Name != e.name {
		return fmt.Errorf("the members are %+v, not %s alone", list.Members, e.name)
	}
	if _, err := e.call(ctx, http.MethodGet, "/health", "", nil); err != nil {
		return err
	}
	var lease struct{ ID string }
	if err := e.rpc(ctx, "/v3/lease/grant", map[string]any{"TTL": 60}, &lease); err != nil {
		return err
	}
	return e.rpc(ctx, "/v3/lease/revoke", lease, &struct{}{})
}

// Login tells the testbed who may do everything, once a test has authentication on: without that, no Restart would find the
// etcd ready. It does no harm where authentication is off, as it is after a Restart without the data.
func (e *Etcd) Login(user, password string) { e.user, e.password = user, password }

// rpc makes one call through the JSON gateway, which saves the testbed from knowing gRPC.
func (e *Etcd) rpc(ctx context.Context, path string, question, answer any) error {
	if e.user == "" {
		return e.rpcAs(ctx, nil, path, question, answer)
	}
	var given struct{ Token string }
	err := e.rpcAs(ctx, nil, "/v3/auth/authenticate", map[string]string{"name": e.user, "password": e.password}, &given)
	switch {
	case err == nil:
		return e.rpcAs(ctx, http.Header{"Authorization": {given.Token}}, path, question, answer)
	case strings.Contains(err.Error(), "authentication is not enabled"):
		return e.rpcAs(ctx, nil, path, question, answer)
	}
	return err
}

func (e *Etcd) rpcAs(ctx context.Context, who http.Header, path string, question, answer any) error {
	body, err := json.Marshal(question)
	if err != nil {
		return err
	}
	if question == nil {
		body = []byte("{}")
	}
	out, err := e.call(ctx, http.MethodPost, path, string(body), who)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, answer); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
