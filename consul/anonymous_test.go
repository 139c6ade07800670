package consul

import (
	"errors"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/registry"
)

// anonymousToken is the ID of the token of those who show none.
const anonymousToken = "00000000-0000-0000-0000-000000000002"

// Who shows no token is not told by Consul that the ACLs have cut an answer: it looks as if there were nothing.
func TestNoToken(t *testing.T) {
	clearEnvironment(t)
	agent, operator := startWithACLs(t)
	q := registry.Query{Service: uniqueService()}
	g := register(t, open(t, Config{Address: agent.Addr(), Token: rootToken}), registry.Instance{ID: "a", Service: q.Service, Address: "10.0.0.1:80"})
	r := open(t, Config{Address: agent.Addr(), Wait: minWait, Options: registry.Options{EmptyHold: -1}})
	if set, err := r.Lookup(within(t, patience), q); len(set) != 0 || !errors.Is(err, registry.ErrDenied) {
		t.Errorf("Lookup returns %v, %v", set, err)
	}
	w := watch(t, r, q)
	w.until("denial", func(p pair) bool { return errors.Is(p.err, registry.ErrDenied) })

	policy, _, err := operator.ACL().PolicyCreate(&api.ACLPolicy{Name: "anonymous", Rules: `service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }`}, nil)
	if err != nil {
		t.Fatal(err)
	}
	allow := func(policies ...*api.ACLLink) {
		t.Helper()
		token, _, err := operator.ACL().TokenRead(anonymousToken, nil)
		if err == nil {
			token.Policies = policies
			_, _, err = operator.ACL().TokenUpdate(token, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	allow(&api.ACLLink{ID: policy.ID})
	w.until("the instance", healthy(1))
	if set, err := r.Lookup(within(t, patience), registry.Query{Service: uniqueService()}); err != nil || set == nil || len(set) != 0 {
		t.Errorf("of a service that there is not, who may read all is told %v, %v", set, err)
	}
	allow()
	p := w.until("denial again", func(p pair) bool { return errors.Is(p.err, registry.ErrDenied) })
	if len(p.set) != 1 {
		t.Errorf("beside it is %v", p)
	}
	allow(&api.ACLLink{ID: policy.ID})
	w.until("the instance again", healthy(1))
	for _, p := range w.all() {
		if p.err == nil && len(p.set) == 0 {
			t.Errorf("there was %v", p)
		}
	}
	if err := g.Deregister(within(t, patience)); err != nil {
		t.Error(err)
	}
	w.until("that it is gone", healthy(0))
}
