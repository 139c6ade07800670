package consul

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
)

// neverEmpty reports a pair without an instance after the first that had one, and an error that is none of the kinds.
func neverEmpty(c *clusterTrial, w *watcher, kind error) {
	c.Helper()
	for i, p := range w.all() {
		if len(p.set) == 0 {
			c.Errorf("pair %d is %v, which lacks the last good set", i, p)
		}
		if p.err != nil && !errors.Is(p.err, kind) {
			c.Errorf("pair %d has %v, want %v", i, p.err, kind)
		}
	}
}

// testLeaderKilled kills the leader with a watch open. A change after that is seen.
func testLeaderKilled(c *clusterTrial) {
	q := registry.Query{Service: uniqueService()}
	g := c.announce(q.Service, "a")
	w := watch(c, c.as(c.Token), q)
	w.until("the instance", healthy(1))
	leader := c.Leader()
	leader.Kill()
	began := time.Now()
	eventually(c, "a change is taken", func() bool {
		in := g.Instance()
		in.Version = "2"
		return g.Update(within(c, patience), in) == nil
	})
	w.until("the change", func(p pair) bool { return healthy(1)(p) && p.set[0].Version == "2" })
	c.Logf("a change is seen %v after the leader was killed", time.Since(began))
	leader.Restart(true)
	neverEmpty(c, w, registry.ErrUnavailable)
}

// testServersDown kills all servers behind the client agent, and later the client agent too, which comes back knowing
// nothing.
func testServersDown(c *clusterTrial) {
	q := registry.Query{Service: uniqueService()}
	g := c.announce(q.Service, "a")
	proxy := testbed.NewProxy(c, c.Agent.Addr())
	r := open(c, Config{Address: proxy.Addr(), Token: c.Token, Wait: minWait})
	w := watch(c, r, q)
	w.until("the instance", healthy(1))

	c.KillServers()
	w.until("why the set may be old", func(p pair) bool { return errors.Is(p.err, registry.ErrUnavailable) })
	unseen := registry.Query{Service: uniqueService()}
	other := open(c, Config{Address: proxy.Addr(), Token: c.Token, Wait: minWait})
	if set, err := other.Lookup(within(c, 3*DefaultTimeout), unseen); err == nil {
		c.Errorf("a service that was never watched is looked up without servers: %v", set)
	}
	c.Agent.Restart(true)
	late := watch(c, other, q)
	p := late.until("an error", func(p pair) bool { return p.err != nil })
	if len(p.set) != 0 || !errors.Is(p.err, registry.ErrUnavailable) {
		c.Errorf("a watch that began without servers yields %v", p)
	}
	// What is measured is how often they try again.
	const outage = 3 * time.Second
	before, began := proxy.Requests(), time.Now()
	<-time.After(outage)
	perSecond := float64(proxy.Requests()-before) / time.Since(began).Seconds()
	c.Logf("%.1f requests a second of two watches and a lookup while it is down", perSecond)
	if perSecond > 20 {
		c.Errorf("%.1f requests a second while it is down", perSecond)
	}

	c.RestartServers()
	began = time.Now()
	w.until("health again", healthy(1))
	late.until("health at last", healthy(1))
	eventually(c, "the announcement stands", func() bool { return g.Err() == nil })
	c.Logf("all is back %v after the servers were ready", time.Since(began))
	neverEmpty(c, w, registry.ErrUnavailable)
	update(c, g, func(in *registry.Instance) { in.Version = "2" })
	w.until("a change", func(p pair) bool { return healthy(1)(p) && p.set[0].Version == "2" })
}

// testNoLeader leaves one server of three, which answers and leads nobody.
func testNoLeader(c *clusterTrial) {
	q := registry.Query{Service: uniqueService()}
	c.announce(q.Service, "a")
	w := watch(c, open(c, Config{Address: c.Agent.Addr(), Token: c.Token, Wait: minWait}), q)
	w.until("the instance", healthy(1))
	eventually(c, "the last server has it", func() bool { // which may lag behind
		entries, _, err := clientOf(c, c.Servers[2], c.Token).Health().Service(q.Service, "", true, &api.QueryOptions{AllowStale: true})
		return err == nil && len(entries) == 1
	})
	c.Servers[0].Kill()
	c.Servers[1].Kill()
	w.until("why the set may be old", func(p pair) bool { // which is that the connections broke, at first
		return errors.Is(p.err, registry.ErrUnavailable) && strings.Contains(p.err.Error(), "No cluster leader")
	})
	// Who wants no more than what a server without a leader knows has it, as long as that is not older than it wants.
	stale := Config{Address: c.Agent.Addr(), Token: c.Token, Stale: true}
	eventually(c, "what a server remembers", func() bool {
		set, err := open(c, stale).Lookup(within(c, patience), q)
		return err == nil && len(set) == 1
	})
	stale.MaxStale = time.Second
	eventually(c, "that it is too old", func() bool {
		set, err := open(c, stale).Lookup(within(c, patience), q)
		return errors.Is(err, registry.ErrUnavailable) && set == nil
	})
	c.RestartServers()
	w.until("health again", healthy(1))
	neverEmpty(c, w, registry.ErrUnavailable)
}

// testReadDenied takes the right to read away from a watch in progress.
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
			c.announce(service, "a")
			token := c.token(test.rules, service)
			r := open(c, Config{Address: c.Agent.Addr(), Token: token.SecretID, Wait: minWait})
			w := watch(c, r, registry.Query{Service: service})
			w.until("the instance", healthy(1))
			test.take(c, &tokenOfWatch{service, token.Policies[0].ID, token})
			w.until("denial", func(p pair) bool { return errors.Is(p.err, registry.ErrDenied) })
			neverEmpty(c, w, registry.ErrDenied)
		})
	}
}

// testBadToken uses a token that there never was.
func testBadToken(c *clusterTrial) {
	service := uniqueService()
	c.announce(service, "a")
	r := c.as("00000000-0000-0000-0000-000000000bad")
	if set, err := r.Lookup(within(c, patience), registry.Query{Service: service}); set != nil || !errors.Is(err, registry.ErrDenied) {
		c.Errorf("Lookup returns %v, %v", set, err)
	}
	_, err := r.Register(within(c, patience), registry.Instance{ID: "b", Service: service, Address: "10.0.0.1:80"})
	if !errors.Is(err, registry.ErrDenied) {
		c.Errorf("Register returns %v", err)
	}
}

// testAnnouncementsTokenDeleted deletes the token of an announcement, and makes it again.
func testAnnouncementsTokenDeleted(c *clusterTrial) {
	service := uniqueService()
	token := c.token(policyToAnnounce, service)
	g := register(c, c.as(token.SecretID), registry.Instance{ID: "a", Service: service, Address: "10.0.0.1:80"})
	c.delete(token)
	eventually(c, "Err says so", func() bool { return errors.Is(g.Err(), registry.ErrDenied) })
	token.CreateIndex, token.ModifyIndex = 0, 0
	if _, _, err := c.operator.ACL().TokenCreate(token, nil); err != nil {
		c.Fatal(err)
	}
	eventually(c, "it stands again", func() bool { return g.Err() == nil })
	w := watch(c, c.as(c.Token), registry.Query{Service: service})
	w.until("the instance", healthy(1))
	if err := g.Deregister(within(c, patience)); err != nil {
		c.Error(err)
	}
}

// testServersStopped stops all servers, so that no connection breaks: the client agent goes on answering from its stream
// that nothing has changed.
func testServersStopped(c *clusterTrial) {
	q := registry.Query{Service: uniqueService()}
	c.announce(q.Service, "a")
	w := watch(c, open(c, Config{Address: c.Agent.Addr(), Token: c.Token, Wait: minWait, Timeout: 2 * time.Second}), q)
	w.until("the instance", healthy(1))
	for _, s := range c.Servers {
		s.Stop()
	}
	w.until("why the set may be old", func(p pair) bool { return errors.Is(p.err, registry.ErrUnavailable) })
	for _, s := range c.Servers {
		s.Continue()
	}
	w.until("health again", healthy(1))
	neverEmpty(c, w, registry.ErrUnavailable)
}

// testViewNotLoaded has a client agent that has just begun, without servers, answer a query of before: it says 200 and an
// empty list.
func testViewNotLoaded(c *clusterTrial) {
	q := registry.Query{Service: uniqueService()}
	c.announce(q.Service, "a")
	proxy := testbed.NewProxy(c, c.Agent.Addr())
	w := watch(c, open(c, Config{Address: proxy.Addr(), Token: c.Token, Wait: 4 * time.Second}), q)
	w.until("the instance", healthy(1))
	eventually(c, "the query waits", func() bool { return proxy.InFlight(isBlocking) == 1 })
	proxy.Hang() // its connection to the agent breaks, but not that to the client
	c.KillServers()
	c.Agent.Restart(true)
	proxy.Heal()
	w.until("why the set may be old", func(p pair) bool { return errors.Is(p.err, registry.ErrUnavailable) })
	c.RestartServers()
	w.until("health again", healthy(1))
	neverEmpty(c, w, registry.ErrUnavailable)
}
