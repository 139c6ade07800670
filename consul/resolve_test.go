package consul

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/consul/internal/agenttest"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// All calls go to one of the agents behind a name. When it fails, all go to another one.
func TestRegister_AtANameWithSeveralAgents(t *testing.T) {
	t.Parallel()
	server := testbed.StartConsul(t)
	client := startClientAgent(t, server)
	operator := operatorOf(t, server)
	first := newTCPBalancer(t, client.Addr())
	_, port, _ := net.SplitHostPort(first.Addr().String())
	second := newTCPBalancerAt(t, "127.0.0.2:"+port, server.Addr())

	d, err := newDriver(Config{Address: "consul.test:" + port, TTL: minTTL})
	if err != nil {
		t.Fatal(err)
	}
	d.agents.Names.Lookup = agenttest.NewDNS("127.0.0.1", "127.0.0.2").Lookup
	r := watchtest.NewRegistry(t, d, registry.Options{})
	service := uniqueService()
	var all []registry.Registration
	for i := range 3 {
		all = append(all, watchtest.Register(t, r, registry.Instance{ID: fmt.Sprint(i), Service: service, Address: "10.0.0.1:80"}))
	}
	nodes := func() string {
		entries, _, err := operator.Health().Service(service, "", true, nil)
		if err != nil {
			return err.Error()
		}
		var nodes []string
		for _, e := range entries {
			nodes = append(nodes, e.Node.Node)
		}
		slices.Sort(nodes)
		return strings.Join(nodes, " ")
	}
	three := func(a *testbed.Consul) string { return strings.Join(slices.Repeat([]string{a.Node()}, 3), " ") }
	for _, g := range all {
		watchtest.Update(t, g, func(in *registry.Instance) { in.Version = "2" })
	}
	watchtest.Eventually(t, "all are at the first agent", func() bool { return nodes() == three(client) })
	first.point()
	watchtest.Eventually(t, "all are at the second agent", func() bool {
		return !slices.ContainsFunc(all, func(g registry.Registration) bool { return g.Err() != nil }) && nodes() == three(server)
	})
	first.point(client.Addr())
	second.point(server.Addr())
	for _, g := range all {
		if err := g.Deregister(watchtest.Context(t)); err != nil {
			t.Error(err)
		}
	}
	if got := nodes(); got != "" {
		t.Errorf("after Deregister it passes on %s", got)
	}
	for _, agent := range []*api.Client{operator, operatorOf(t, client)} {
		if entries, err := agent.Agent().ServicesWithFilter(fmt.Sprintf("Service == %q", service)); err != nil || len(entries) > 0 {
			t.Errorf("an agent still has %v, %v", entries, err)
		}
	}
}
