package consul

import (
	"errors"
	"slices"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// anonymousToken is the ID of the token of calls without a token.
const anonymousToken = "00000000-0000-0000-0000-000000000002"

// Consul does not tell a client without a token that ACLs have cut an answer: the answer looks like an empty set.
func TestDriver_IsDeniedWithoutAToken(t *testing.T) {
	t.Parallel()
	agent, operator := startWithACLs(t)
	q := registry.Query{Service: uniqueService()}
	g := watchtest.Register(t, open(t, Config{Address: agent.Addr(), Token: registry.NewSecret(rootToken)}), registry.Instance{ID: "a", Service: q.Service, Address: "10.0.0.1:80"})
	r := open(t, Config{Address: agent.Addr(), Wait: minWait, Options: registry.Options{OutageGrace: -1}})
	if set, err := r.Lookup(watchtest.Context(t), q); len(set) != 0 || !errors.Is(err, registry.ErrDenied) {
		t.Errorf("Lookup returns %v, %v", set, err)
	}
	if names, err := r.Services(watchtest.Context(t)); len(names) != 0 || !errors.Is(err, registry.ErrDenied) {
		t.Errorf("Services returns %v, %v", names, err)
	}
	w := watchtest.Watch(t, r, q)
	w.Until("denial", func(p watchtest.Pair) bool { return errors.Is(p.Err, registry.ErrDenied) })

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
	w.Until("the instance", watchtest.Healthy(1))
	if names, err := r.Services(watchtest.Context(t)); err != nil || !slices.Contains(names, q.Service) {
		t.Errorf("Services returns %v, %v", names, err)
	}
	if set, err := r.Lookup(watchtest.Context(t), registry.Query{Service: uniqueService()}); err != nil || set == nil || len(set) != 0 {
		t.Errorf("for a service that does not exist, a token that may read everything gets %v, %v", set, err)
	}
	allow()
	p := w.Until("denial again", func(p watchtest.Pair) bool { return errors.Is(p.Err, registry.ErrDenied) })
	if len(p.Set) != 1 {
		t.Errorf("beside the error the set is %v", p)
	}
	allow(&api.ACLLink{ID: policy.ID})
	w.Until("the instance again", watchtest.Healthy(1))
	for _, p := range w.All() {
		if p.Err == nil && len(p.Set) == 0 {
			t.Errorf("there was %v", p)
		}
	}
	if err := g.Deregister(watchtest.Context(t)); err != nil {
		t.Error(err)
	}
	w.Until("that it is gone", watchtest.Healthy(0))
}
