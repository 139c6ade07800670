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

// EtcdOptions configures an etcd. The zero value is an etcd with its defaults.
type EtcdOptions struct {
	// Args are further arguments, such as "--auth-token-ttl=5". They override the testbed's.
	Args []string
}

// Etcd is an etcd that is its own single member. It has the same cluster and member IDs after each Restart, also if its data
// was removed. A client cannot distinguish such a restore from a server that was only unreachable for a while.
type Etcd struct {
	server
	name    string
	options EtcdOptions
	// The user of the testbed's own calls; empty without authentication.
	user, password string
}

// StartEtcd starts an etcd and blocks until it is ready. It fails the test if the etcd does not get ready. The etcd ends with the
// test. No more than one EtcdOptions may be given.
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

// ready checks that this member leads, reads and writes.
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
	return e.readsAndWrites(ctx)
}

// readsAndWrites makes a linearizable read and a write. The write is a lease, which does not change the revision of the store.
func (e *Etcd) readsAndWrites(ctx context.Context) error {
	if _, err := e.call(ctx, http.MethodGet, "/health", "", nil); err != nil {
		return err
	}
	var lease struct{ ID string }
	if err := e.rpc(ctx, "/v3/lease/grant", map[string]any{"TTL": 60}, &lease); err != nil {
		return err
	}
	return e.rpc(ctx, "/v3/lease/revoke", lease, &struct{}{})
}

// Login gives the testbed a user with all permissions. A test that turns authentication on must call it, since Restart checks
// with this user whether the etcd is ready. It has no effect while authentication is off, as it is after a Restart without the data.
func (e *Etcd) Login(user, password string) { e.user, e.password = user, password }

// rpc makes one call through the JSON gateway, so that the testbed does not need gRPC.
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
