package consul

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/registrytest"
)

// across announces in one datacenter, and reads that one by way of another.
type across struct {
	*driver // of the datacenter that is written to
	reader  *driver
}

func (a across) Follow(q registry.Query) registry.Source { return a.reader.Follow(q) }
func (a across) Close() error                            { return errors.Join(a.driver.Close(), a.reader.Close()) }

func TestDatacenters(t *testing.T) {
	dc1, dc2 := testbed.StartConsulDatacenters(t)
	t.Run("conformance", func(t *testing.T) { testConformanceAcrossDatacenters(t, dc1, dc2) })
	t.Run("dead datacenter", func(t *testing.T) { testDeadDatacenter(operatorOfCluster(t, dc1), dc2) })
}

func testConformanceAcrossDatacenters(t *testing.T, dc1, dc2 *testbed.ConsulCluster) {
	c := operatorOfCluster(t, dc1)
	token := c.token([]string{`service_prefix "" { policy = "write" }`, `node_prefix "" { policy = "read" }`}, "").SecretID
	eventually(t, "the token is known in dc2", func() bool {
		_, _, err := clientOf(t, dc2.Servers[0], token).ACL().TokenReadSelf(nil)
		return err == nil
	})
	here, there := testbed.NewProxy(t, dc1.Agent.Addr()), testbed.NewProxy(t, dc2.Agent.Addr())
	registrytest.Run(t, registrytest.Config{
		New: func(t *testing.T) *registry.Registry {
			writer, err := newDriver(Config{Address: here.Addr(), Token: token})
			if err != nil {
				t.Fatal(err)
			}
			reader, err := newDriver(Config{Address: there.Addr(), Token: token, Datacenter: "dc1"})
			if err != nil {
				t.Fatal(err)
			}
			return registry.New(across{writer, reader}, registry.Options{Logger: discard()})
		},
		Lose: func(t *testing.T, in registry.Instance) {
			if err := c.operator.Agent().ServiceDeregister(serviceID(in.Service, in.ID)); err != nil {
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
		Calls:    func(*testing.T) int { return here.Requests() + there.Requests() },
		Complete: true,
	})
}

// testDeadDatacenter kills the servers of the datacenter that a watch reads from another.
func testDeadDatacenter(c *clusterTrial, dc2 *testbed.ConsulCluster) {
	q := registry.Query{Service: uniqueService()}
	operatorOfCluster(c.T, dc2).announce(q.Service, "a")
	reading := Config{Address: c.Agent.Addr(), Token: c.Token, Datacenter: "dc2", Wait: minWait}
	w := watch(c, open(c, reading), q)
	w.until("the instance", healthy(1))

	dc2.KillServers()
	w.until("why the set may be old", func(p pair) bool { return errors.Is(p.err, registry.ErrUnavailable) })
	if set, err := open(c, reading).Lookup(within(c, patience), q); set != nil || !errors.Is(err, registry.ErrUnavailable) {
		c.Errorf("Lookup in a dead datacenter returns %v, %v", set, err)
	}
	// The client agent streams what it has never read. An empty list of that must not be believed either.
	late := watch(c, open(c, reading), registry.Query{Service: uniqueService()})
	late.until("an error", func(p pair) bool { return errors.Is(p.err, registry.ErrUnavailable) })
	for _, p := range late.all() {
		if p.err == nil {
			c.Errorf("a dead datacenter is said to have %v", p)
		}
	}
	unknown := reading
	unknown.Datacenter = "nowhere"
	if set, err := open(c, unknown).Lookup(within(c, patience), q); set != nil || !errors.Is(err, registry.ErrUnavailable) {
		c.Errorf("Lookup in an unknown datacenter returns %v, %v", set, err)
	}

	dc2.RestartServers()
	began := time.Now()
	w.until("health again", healthy(1))
	c.Logf("the datacenter is back %v after its server was ready", time.Since(began))
	late.until("an empty set that is true", healthy(0))
	neverEmpty(c, w, registry.ErrUnavailable)
}

// What a peer exports is found by its name, changes included, and a watch that nobody answers keeps what it had.
func TestPeers(t *testing.T) {
	near, far := testbed.StartConsulPeers(t)
	q := registry.Query{Service: uniqueService()}
	there := operatorOfCluster(t, far)
	g := there.announce(q.Service, "a")
	here := operatorOfCluster(t, near)
	reading := Config{Address: near.Agent.Addr(), Token: here.token(policyToReadPeer, "").SecretID, Peer: "far", Wait: minWait}
	r := open(t, reading)
	w := watch(t, r, q)
	w.until("the instance of the peer", healthy(1))
	before := len(w.all()) // until Consul has heard of the export, there is an error and no last good set
	for i := range policyToReadPeer {
		less := reading
		less.Token = here.token(policyToReadPeer[i:i+1], "").SecretID
		if set, err := open(t, less).Lookup(within(t, patience), q); !errors.Is(err, registry.ErrDenied) {
			t.Errorf("with nothing but %s there are %v, %v", policyToReadPeer[i], set, err)
		}
	}
	update(t, g, func(in *registry.Instance) { in.Version = "2" })
	w.until("a change", func(p pair) bool { return healthy(1)(p) && p.set[0].Version == "2" })
	if set, err := r.Lookup(within(t, patience), q); err != nil || len(set) != 1 {
		t.Errorf("Lookup returns %v, %v", set, err)
	}
	if set, err := open(t, Config{Address: near.Agent.Addr(), Token: near.Token}).Lookup(within(t, patience), q); err != nil || len(set) != 0 {
		t.Errorf("without the peer there are %v, %v", set, err)
	}
	there.announce(q.Service, "b")
	w.until("another instance", healthy(2))

	// Of a service that the peer does not have, there is nothing; of a peer that does not exist nothing is known.
	none := registry.Query{Service: uniqueService()}
	if set, err := r.Lookup(within(t, patience), none); err != nil || len(set) != 0 {
		t.Errorf("of a service that the peer has not there are %v, %v", set, err)
	}
	slip := reading
	slip.Peer = "fra"
	if set, err := open(t, slip).Lookup(within(t, patience), q); !errors.Is(err, registry.ErrUnavailable) || !strings.Contains(err.Error(), `peer that does not exist, or exports nothing: "fra"`) {
		t.Errorf("of a peer that does not exist there are %v, %v", set, err)
	}

	// Consul keeps what it has been told of a peer that is down. Where it is down itself, it is an outage as any other.
	far.KillServers()
	if set, err := r.Lookup(within(t, patience), q); err != nil || len(set) != 2 {
		t.Errorf("of a peer that is down there are %v, %v", set, err)
	}
	near.KillServers()
	w.until("why the set may be old", func(p pair) bool { return errors.Is(p.err, registry.ErrUnavailable) })
	near.RestartServers()
	w.until("health again", healthy(2))
	for i, p := range w.all()[before:] {
		if len(p.set) == 0 {
			t.Errorf("pair %d after the first good one is %v, which lacks the last good set", i+1, p)
		}
	}
	far.RestartServers() // for the announcements to be taken back
}
