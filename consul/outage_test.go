package consul

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// neverEmpty reports an error if a pair has no instance after a pair that had one, or if the error of a pair is of none of the kinds.
func neverEmpty(c *clusterTrial, w *watchtest.Watcher, kinds ...error) {
	c.Helper()
	for i, p := range w.All() {
		if len(p.Set) == 0 {
			c.Errorf("pair %d is %v, which lacks the last good set", i, p)
		}
		if p.Err != nil && !slices.ContainsFunc(kinds, func(kind error) bool { return errors.Is(p.Err, kind) }) {
			c.Errorf("pair %d has %v, want %v", i, p.Err, kinds)
		}
	}
}

// testLeaderKilled kills the leader during a watch, which must see a change after that.
func testLeaderKilled(c *clusterTrial) {
	q := registry.Query{Service: uniqueService()}
	g := c.register(q.Service, "a")
	w := watchtest.Watch(c, c.as(c.Token), q)
	w.Until("the instance", watchtest.Healthy(1))
	leader := c.Leader()
	leader.Kill()
	began := time.Now()
	watchtest.Eventually(c, "a change is taken", func() bool {
		in := g.Instance()
		in.Version = "2"
		return g.Update(watchtest.Context(c), in) == nil
	})
	w.Until("the change", func(p watchtest.Pair) bool { return watchtest.Healthy(1)(p) && p.Set[0].Version == "2" })
	c.Logf("a change is seen %v after the leader was killed", time.Since(began))
	leader.Restart(true)
	neverEmpty(c, w, registry.ErrUnavailable)
}

// testServersDown kills all servers behind the client agent. Later it restarts the client agent, which then knows no service.
func testServersDown(c *clusterTrial) {
	q := registry.Query{Service: uniqueService()}
	g := c.register(q.Service, "a")
	proxy := testbed.NewProxy(c, c.Agent.Addr())
	r := open(c, Config{Address: proxy.Addr(), Token: registry.NewSecret(c.Token), Wait: minWait})
	w := watchtest.Watch(c, r, q)
	w.Until("the instance", watchtest.Healthy(1))

	c.KillServers()
	w.Until("why the set may be old", func(p watchtest.Pair) bool { return errors.Is(p.Err, registry.ErrUnavailable) })
	unseen := registry.Query{Service: uniqueService()}
	other := open(c, Config{Address: proxy.Addr(), Token: registry.NewSecret(c.Token), Wait: minWait})
	if set, err := other.Lookup(watchtest.Within(c, 3*DefaultTimeout), unseen); err == nil {
		c.Errorf("a service that was never watched is looked up without servers: %v", set)
	}
	c.Agent.Restart(true)
	late := watchtest.Watch(c, other, q)
	p := late.Until("an error", func(p watchtest.Pair) bool { return p.Err != nil })
	if len(p.Set) != 0 || !errors.Is(p.Err, registry.ErrUnavailable) {
		c.Errorf("a watch that began without servers yields %v", p)
	}
	// This measures how often they try again.
	perSecond := watchtest.Rate(c, "requests while it is down", time.Now(), 10, proxy.Requests)
	c.Logf("%.1f requests a second of two watches and a lookup while it is down", perSecond)
	if perSecond > 20 {
		c.Errorf("%.1f requests a second while it is down", perSecond)
	}

	c.RestartServers()
	began := time.Now()
	w.Until("health again", watchtest.Healthy(1))
	late.Until("health at last", watchtest.Healthy(1))
	watchtest.Eventually(c, "the instance is registered", func() bool { return g.Err() == nil })
	c.Logf("all is back %v after the servers were ready", time.Since(began))
	neverEmpty(c, w, registry.ErrUnavailable)
	watchtest.Update(c, g, func(in *registry.Instance) { in.Version = "2" })
	w.Until("a change", func(p watchtest.Pair) bool { return watchtest.Healthy(1)(p) && p.Set[0].Version == "2" })
}

// testNoLeader leaves one server of three: it answers, but has no leader.
func testNoLeader(c *clusterTrial) {
	q := registry.Query{Service: uniqueService()}
	c.register(q.Service, "a")
	w := watchtest.Watch(c, open(c, Config{Address: c.Agent.Addr(), Token: registry.NewSecret(c.Token), Wait: minWait}), q)
	w.Until("the instance", watchtest.Healthy(1))
	watchtest.Eventually(c, "the last server has it", func() bool { // it may lag behind
		entries, _, err := clientOf(c, c.Servers[2], c.Token).Health().Service(q.Service, "", true, &api.QueryOptions{AllowStale: true})
		return err == nil && len(entries) == 1
	})
	c.Servers[0].Kill()
	c.Servers[1].Kill()
	w.Until("why the set may be old", func(p watchtest.Pair) bool { return errors.Is(p.Err, registry.ErrUnavailable) })
	// A watch yields only the first failure, which may be a broken connection. So a lookup shows that there is no leader.
	watchtest.Eventually(c, "that there is no leader", func() bool {
		_, err := open(c, Config{Address: c.Agent.Addr(), Token: registry.NewSecret(c.Token)}).Lookup(watchtest.Context(c), q)
		return errors.Is(err, registry.ErrUnavailable) && strings.Contains(err.Error(), "No cluster leader")
	})
	// A stale read is answered by a server without a leader, as long as its data is not older than MaxStale.
	stale := Config{Address: c.Agent.Addr(), Token: registry.NewSecret(c.Token), Stale: true}
	watchtest.Eventually(c, "what a server remembers", func() bool {
		set, err := open(c, stale).Lookup(watchtest.Context(c), q)
		return err == nil && len(set) == 1
	})
	stale.MaxStale = time.Second
	watchtest.Eventually(c, "that it is too old", func() bool {
		set, err := open(c, stale).Lookup(watchtest.Context(c), q)
		return errors.Is(err, registry.ErrUnavailable) && set == nil
	})
	c.RestartServers()
	w.Until("health again", watchtest.Healthy(1))
	neverEmpty(c, w, registry.ErrUnavailable)
}

// testReadDenied withdraws the right to read during a watch.
func testReadDenied(c *clusterTrial) {
	for _, test := range []struct {
		name  string
		rules []string
		take  func(c *clusterTrial, token *tokenOfWatch)
	}{
		{"the service", policyToRead, func(c *clusterTrial, w *tokenOfWatch) { c.rewrite(w.policy, policyToRead[1:], w.service) }},
		{"the node", policyToRead, func(c *clusterTrial, w *tokenOfWatch) { c.rewrite(w.policy, policyToRead[:1], w.service) }},
		{"the token", policyToRead, func(c *clusterTrial, w *tokenOfWatch) { c.delete(w.token) }},
	} {
		c.Run(test.name, func(t *testing.T) {
			c := c.in(t)
			service := uniqueService()
			c.register(service, "a")
			token := c.token(test.rules, service)
			r := open(c, Config{Address: c.Agent.Addr(), Token: registry.NewSecret(token.SecretID), Wait: minWait})
			w := watchtest.Watch(c, r, registry.Query{Service: service})
			w.Until("the instance", watchtest.Healthy(1))
			test.take(c, &tokenOfWatch{service, token.Policies[0].ID, token})
			w.Until("denial", func(p watchtest.Pair) bool { return errors.Is(p.Err, registry.ErrDenied) })
			neverEmpty(c, w, registry.ErrDenied, registry.ErrUnavailable) // the agent may first report that it must read again
		})
	}
}

// testBadToken uses a token that never existed.
func testBadToken(c *clusterTrial) {
	service := uniqueService()
	c.register(service, "a")
	r := c.as("00000000-0000-0000-0000-000000000bad")
	if set, err := r.Lookup(watchtest.Context(c), registry.Query{Service: service}); set != nil || !errors.Is(err, registry.ErrDenied) {
		c.Errorf("Lookup returns %v, %v", set, err)
	}
	_, err := r.Register(watchtest.Context(c), registry.Instance{ID: "b", Service: service, Address: "10.0.0.1:80"})
	if !errors.Is(err, registry.ErrDenied) {
		c.Errorf("Register returns %v", err)
	}
}

// testRegistrationsTokenDeleted deletes the token of a registration, and creates it again.
func testRegistrationsTokenDeleted(c *clusterTrial) {
	service := uniqueService()
	token := c.token(policyToRegister, service)
	g := watchtest.Register(c, c.as(token.SecretID), registry.Instance{ID: "a", Service: service, Address: "10.0.0.1:80"})
	c.delete(token)
	watchtest.Eventually(c, "Err says so", func() bool { return errors.Is(g.Err(), registry.ErrDenied) })
	token.CreateIndex, token.ModifyIndex = 0, 0
	if _, _, err := c.operator.ACL().TokenCreate(token, nil); err != nil {
		c.Fatal(err)
	}
	watchtest.Eventually(c, "it is registered again", func() bool { return g.Err() == nil })
	w := watchtest.Watch(c, c.as(c.Token), registry.Query{Service: service})
	w.Until("the instance", watchtest.Healthy(1))
	if err := g.Deregister(watchtest.Context(c)); err != nil {
		c.Error(err)
	}
}

// testServersStopped pauses all servers. No connection breaks, so the client agent goes on answering from its stream that nothing has
// changed.
func testServersStopped(c *clusterTrial) {
	q := registry.Query{Service: uniqueService()}
	c.register(q.Service, "a")
	w := watchtest.Watch(c, open(c, Config{Address: c.Agent.Addr(), Token: registry.NewSecret(c.Token), Wait: minWait, Timeout: 2 * time.Second}), q)
	w.Until("the instance", watchtest.Healthy(1))
	for _, s := range c.Servers {
		s.Stop()
	}
	w.Until("why the set may be old", func(p watchtest.Pair) bool { return errors.Is(p.Err, registry.ErrUnavailable) })
	for _, s := range c.Servers {
		s.Continue()
	}
	w.Until("health again", watchtest.Healthy(1))
	neverEmpty(c, w, registry.ErrUnavailable)
}

// testViewNotLoaded repeats an earlier read at a client agent that has just started and has no servers. The agent answers with 200 and an
// empty list.
func testViewNotLoaded(c *clusterTrial) {
	q := registry.Query{Service: uniqueService()}
	c.register(q.Service, "a")
	proxy := testbed.NewProxy(c, c.Agent.Addr())
	w := watchtest.Watch(c, open(c, Config{Address: proxy.Addr(), Token: registry.NewSecret(c.Token), Wait: 4 * time.Second}), q)
	w.Until("the instance", watchtest.Healthy(1))
	watchtest.Eventually(c, "the query waits", func() bool { return proxy.InFlight(isBlocking) == 1 })
	proxy.Hang() // its connection to the agent breaks, and its connection to the client does not
	c.KillServers()
	c.Agent.Restart(true)
	proxy.Heal()
	w.Until("why the set may be old", func(p watchtest.Pair) bool { return errors.Is(p.Err, registry.ErrUnavailable) })
	c.RestartServers()
	w.Until("health again", watchtest.Healthy(1))
	neverEmpty(c, w, registry.ErrUnavailable)
}
