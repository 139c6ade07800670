package consul

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/consul/internal/codec"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/registrytest"
)

// across registers in one datacenter, and reads its instances through an agent of another one.
type across struct {
	*driver // of the datacenter that is written to
	reader  *driver
}

func (a across) Watch(q registry.Query) registry.Source { return a.reader.Watch(q) }
func (a across) Close() error                           { return errors.Join(a.driver.Close(), a.reader.Close()) }

func TestWatch_InAnotherDatacenter(t *testing.T) {
	t.Parallel()
	dc1, dc2 := testbed.StartConsulDatacenters(t)
	t.Run("conformance", func(t *testing.T) { testConformanceAcrossDatacenters(t, dc1, dc2) })
	t.Run("dead datacenter", func(t *testing.T) { testDeadDatacenter(operatorOfCluster(t, dc1), dc2) })
}

func testConformanceAcrossDatacenters(t *testing.T, dc1, dc2 *testbed.ConsulCluster) {
	c := operatorOfCluster(t, dc1)
	token := c.token(policyToConform, "").SecretID
	watchtest.Eventually(t, "the token is known in dc2", func() bool {
		_, _, err := clientOf(t, dc2.Servers[0], token).ACL().TokenReadSelf(nil)
		return err == nil
	})
	here, there := testbed.NewProxy(t, dc1.Agent.Addr()), testbed.NewProxy(t, dc2.Agent.Addr())
	driver := func(t *testing.T) registry.Driver {
		writer, err := newDriver(Config{Address: here.Addr(), Token: registry.NewSecret(token)})
		if err != nil {
			t.Fatal(err)
		}
		reader, err := newDriver(Config{Address: there.Addr(), Token: registry.NewSecret(token), Datacenter: "dc1"})
		if err != nil {
			t.Fatal(err)
		}
		return across{writer, reader}
	}
	client := func(t *testing.T, o registry.Options) *registry.Registry {
		return watchtest.NewRegistry(t, driver(t), o)
	}
	registrytest.Run(t, registrytest.Config{
		New:          func(t *testing.T) *registry.Registry { return client(t, registry.Options{}) },
		NewDriver:    driver,
		KeepOnClose:  func(t *testing.T) *registry.Registry { return client(t, registry.Options{KeepOnClose: true}) },
		RefuseWrites: func(*testing.T) func() { return refuseWrites(here) },
		LoseAnswers:  func(*testing.T) func() { return loseAnswers(here, dc1.Agent.Addr()) },
		WriteUnreadable: func(t *testing.T, service, id string) (remove func()) {
			return registerUnreadable(t, c.operator, service, id)
		},
		Lose: func(t *testing.T, in registry.Instance) {
			if err := c.operator.Agent().ServiceDeregister(codec.ServiceID(in.Service, in.ID)); err != nil {
				t.Fatal(err)
			}
		},
		Break: func(*testing.T) func() {
			here.Refuse()
			there.Refuse()
			return func() {
				here.Heal()
				there.Heal()
			}
		},
		Calls:       func(*testing.T) int { return here.Requests() + there.Requests() },
		Complete:    true,
		Values:      true,
		NoLeakCheck: true, // TestMain looks for goroutines that are left
	})
}

// testDeadDatacenter kills the servers of the datacenter that a watch reads from another.
func testDeadDatacenter(c *clusterTrial, dc2 *testbed.ConsulCluster) {
	q := registry.Query{Service: uniqueService()}
	operatorOfCluster(c.T, dc2).register(q.Service, "a")
	reading := Config{Address: c.Agent.Addr(), Token: registry.NewSecret(c.Token), Datacenter: "dc2", Wait: minWait}
	w := watchtest.Watch(c, open(c, reading), q)
	w.Until("the instance", watchtest.Healthy(1))

	dc2.KillServers()
	w.Until("why the set may be old", func(p watchtest.Pair) bool { return errors.Is(p.Err, registry.ErrUnavailable) })
	if set, err := open(c, reading).Lookup(watchtest.Context(c), q); set != nil || !errors.Is(err, registry.ErrUnavailable) {
		c.Errorf("Lookup in a dead datacenter returns %v, %v", set, err)
	}
	// The client agent streams a service that it has never read. Its empty list is wrong as well.
	late := watchtest.Watch(c, open(c, reading), registry.Query{Service: uniqueService()})
	late.Until("an error", func(p watchtest.Pair) bool { return errors.Is(p.Err, registry.ErrUnavailable) })
	for _, p := range late.All() {
		if p.Err == nil {
			c.Errorf("for a dead datacenter the watch yields %v", p)
		}
	}
	unknown := reading
	unknown.Datacenter = "nowhere"
	if set, err := open(c, unknown).Lookup(watchtest.Context(c), q); set != nil || !errors.Is(err, registry.ErrUnavailable) {
		c.Errorf("Lookup in an unknown datacenter returns %v, %v", set, err)
	}

	dc2.RestartServers()
	began := time.Now()
	w.Until("health again", watchtest.Healthy(1))
	c.Logf("the datacenter is back %v after its server was ready", time.Since(began))
	late.Until("the empty set, now confirmed", watchtest.Healthy(0))
	neverEmpty(c, w, registry.ErrUnavailable)
}

// A watch finds the services that a peer exports by the name of the peer, and sees their changes. Without an answer it keeps its set.
func TestPeer_ReadsExportedInstances(t *testing.T) {
	t.Parallel()
	near, far := testbed.StartConsulPeers(t)
	q := registry.Query{Service: uniqueService()}
	there := operatorOfCluster(t, far)
	g := there.register(q.Service, "a")
	here := operatorOfCluster(t, near)
	reading := Config{Address: near.Agent.Addr(), Token: registry.NewSecret(here.token(policyToReadPeer, "").SecretID), Peer: "far", Wait: minWait}
	r := open(t, reading)
	w := watchtest.Watch(t, r, q)
	w.Until("the instance of the peer", watchtest.Healthy(1))
	before := len(w.All()) // until Consul knows the export, there is an error and no last good set
	for i := range policyToReadPeer {
		less := reading
		less.Token = registry.NewSecret(here.token(policyToReadPeer[i:i+1], "").SecretID)
		if set, err := open(t, less).Lookup(watchtest.Context(t), q); !errors.Is(err, registry.ErrDenied) {
			t.Errorf("with only the rule %s, Lookup returns %v, %v", policyToReadPeer[i], set, err)
		}
	}
	watchtest.Update(t, g, func(in *registry.Instance) { in.Version = "2" })
	w.Until("a change", func(p watchtest.Pair) bool { return watchtest.Healthy(1)(p) && p.Set[0].Version == "2" })
	if set, err := r.Lookup(watchtest.Context(t), q); err != nil || len(set) != 1 {
		t.Errorf("Lookup returns %v, %v", set, err)
	}
	if set, err := open(t, Config{Address: near.Agent.Addr(), Token: registry.NewSecret(near.Token)}).Lookup(watchtest.Context(t), q); err != nil || len(set) != 0 {
		t.Errorf("without the peer, Lookup returns %v, %v", set, err)
	}
	there.register(q.Service, "b")
	w.Until("another instance", watchtest.Healthy(2))

	// A service that the peer does not have is an empty set. A peer that does not exist is an error.
	none := registry.Query{Service: uniqueService()}
	if set, err := r.Lookup(watchtest.Context(t), none); err != nil || len(set) != 0 {
		t.Errorf("for a service that the peer does not have, Lookup returns %v, %v", set, err)
	}
	slip := reading
	slip.Peer = "fra"
	if set, err := open(t, slip).Lookup(watchtest.Context(t), q); !errors.Is(err, registry.ErrUnavailable) || !strings.Contains(err.Error(), `peer that does not exist, or exports nothing: "fra"`) {
		t.Errorf("for a peer that does not exist, Lookup returns %v, %v", set, err)
	}

	// Consul keeps the instances of a peer that is down. Only if Consul itself is down, the watch reports an outage.
	far.KillServers()
	if set, err := r.Lookup(watchtest.Context(t), q); err != nil || len(set) != 2 {
		t.Errorf("for a peer that is down, Lookup returns %v, %v", set, err)
	}
	near.KillServers()
	w.Until("why the set may be old", func(p watchtest.Pair) bool { return errors.Is(p.Err, registry.ErrUnavailable) })
	near.RestartServers()
	w.Until("health again", watchtest.Healthy(2))
	for i, p := range w.All()[before:] {
		if len(p.Set) == 0 {
			t.Errorf("pair %d after the first good one is %v, which lacks the last good set", i+1, p)
		}
	}
	far.RestartServers() // so that the registrations can be removed
}

// The end of a peering removes all imported instances at once. That is an error, not an empty set.
func TestPeers_DeletedPeering(t *testing.T) {
	t.Parallel()
	near, far := testbed.StartConsulPeers(t)
	q := registry.Query{Service: uniqueService()}
	operatorOfCluster(t, far).register(q.Service, "a")
	r := open(t, Config{Address: near.Agent.Addr(), Token: registry.NewSecret(near.Token), Peer: "far", Wait: minWait})
	w := watchtest.Watch(t, r, q)
	w.Until("the instance of the peer", watchtest.Healthy(1))
	before := len(w.All())
	if _, err := clientOf(t, near.Agent, near.Token).Peerings().Delete(watchtest.Context(t), "far", nil); err != nil {
		t.Fatal(err)
	}
	w.Until("an error because of the peering", func(p watchtest.Pair) bool { return p.Err != nil && strings.Contains(p.Err.Error(), "peer") })
	for _, p := range w.All()[before:] {
		if len(p.Set) != 1 {
			t.Errorf("after the end of the peering the watch yields %v, which lacks the last good set", p)
		}
	}
	if set, err := r.Lookup(watchtest.Context(t), registry.Query{Service: uniqueService()}); err == nil {
		t.Errorf("after the end of the peering Lookup returns %v", set)
	}
}
