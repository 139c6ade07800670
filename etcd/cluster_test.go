package etcd

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
)

// clusterTrial is a service of several instances on a cluster, and a watcher for each member, since calls go to all
// members in turn.
type clusterTrial struct {
	*testing.T
	cluster  *testbed.EtcdCluster
	calls    *meter
	given    []registry.Registration
	watchers []*watcher
}

const clusterClients = 5

func newClusterTrial(t *testing.T, options ...testbed.EtcdClusterOptions) *clusterTrial {
	cluster := testbed.StartEtcdCluster(t, options...)
	return newClusterTrialBy(t, cluster, Config{Endpoints: cluster.Addrs(), Timeout: 2 * time.Second, KeepAliveTimeout: time.Second})
}

// newClusterTrialBy reaches the members as c says.
func newClusterTrialBy(t *testing.T, cluster *testbed.EtcdCluster, c Config) *clusterTrial {
	o := &clusterTrial{T: t, cluster: cluster, calls: new(meter)}
	r := openWith(t, c, o.calls.option())
	for i := range 6 {
		in := registry.Instance{ID: fmt.Sprint("i", i), Service: "s", Address: "10.0.0.1:80", Version: "0"}
		o.given = append(o.given, register(t, r, in))
	}
	for i := range clusterClients + 1 {
		q := registry.Query{Service: "s", Metadata: map[string]string{}}
		if i > 0 {
			q.AnyStatus = true // another query is another watch
			q.Metadata = nil
		}
		client := r
		if i > 1 {
			client = openWith(t, c, o.calls.option())
		}
		o.watchers = append(o.watchers, follow(t, client, q))
	}
	o.all("all instances", healthy(6))
	return o
}

func (t *clusterTrial) all(what string, ok func(pair) bool) {
	t.Helper()
	for _, w := range t.watchers {
		w.until(what, ok)
	}
}

// converges waits until everything stands, is seen, and can be changed; and no set on the way lacked anything.
func (t *clusterTrial) converges(version string) {
	t.Helper()
	began := time.Now()
	for _, g := range t.given {
		eventually(t, "the announcement stands", func() bool { return g.Err() == nil })
	}
	t.all("all instances", healthy(6))
	t.Logf("converged after %v", time.Since(began))
	update(t, t.given[0], func(in *registry.Instance) { in.Version = version })
	t.all("a change", func(p pair) bool { return p.err == nil && p.find("i0") != nil && p.find("i0").Version == version })
	for _, w := range t.watchers {
		for _, p := range w.all() {
			if len(p.set) != 6 {
				t.Fatalf("a watcher saw %v", p)
			}
		}
	}
}

func TestLeaderIsKilled(t *testing.T) {
	o := newClusterTrial(t)
	for i := range 2 {
		leader := o.cluster.Leader()
		leader.Kill()
		o.converges(fmt.Sprint("without it ", i))
		leader.Restart(true)
		o.converges(fmt.Sprint("with it ", i))
	}
}

func TestQuorumIsLostAndBack(t *testing.T) {
	o := newClusterTrial(t)
	one, other := o.cluster.Members[0], o.cluster.Members[1]
	one.Kill()
	other.Kill()
	o.all("the last good set beside an error", func(p pair) bool { return len(p.set) == 6 && errors.Is(p.err, registry.ErrUnavailable) })
	for _, g := range o.given {
		eventually(t, "Err tells of the loss", func() bool { return errors.Is(g.Err(), registry.ErrUnavailable) })
	}
	before := o.calls.sent.Load()
	const outage = 5 * time.Second
	<-time.After(outage)
	sent := o.calls.sent.Load() - before
	t.Logf("in %v without a quorum: %d messages for %d watches and announcements", outage, sent, 12)
	if sent > 12*5*10 {
		t.Errorf("%d messages in %v without a quorum", sent, outage)
	}
	one.Restart(true)
	o.converges("back")
}

func TestAMemberThatHangs(t *testing.T) {
	cluster := testbed.StartEtcdCluster(t)
	o := newClusterTrialBy(t, cluster, Config{Endpoints: cluster.Addrs()})
	member := o.cluster.Members[0]
	if member == o.cluster.Leader() {
		member = o.cluster.Members[1]
	}
	member.Stop()
	// Nothing is lost by it, and what depended on it finds out: gRPC probes a silent connection after 10 s.
	update(t, o.given[0], func(in *registry.Instance) { in.Version = "1" })
	o.all("a change, through the other members", func(p pair) bool { return p.err == nil && p.find("i0").Version == "1" })
	<-time.After(DefaultTTL + 2*DefaultTimeout) // long enough for a lease that is not renewed, or too late
	o.converges("without it")
	member.Continue()
	o.converges("with it")
}

// The way to a member is cut, and the member is well.
func TestTheWayToAMemberIsCut(t *testing.T) {
	cluster := testbed.StartEtcdCluster(t)
	var ways []*network
	var addrs []string
	for _, a := range cluster.Addrs() {
		ways = append(ways, newNetwork(t, a))
		addrs = append(addrs, ways[len(ways)-1].addr())
	}
	o := newClusterTrialBy(t, cluster, Config{Endpoints: addrs, Timeout: 2 * time.Second, KeepAliveTimeout: time.Second})
	for i, way := range ways {
		way.cut()
		o.converges(fmt.Sprint("without way ", i))
		way.heal()
		o.converges(fmt.Sprint("with way ", i))
	}
}

// A member that is cut off from the others has no leader, and answers nothing that could be out of date. Whoever is connected to
// it moves on.
func TestAMemberIsCutOff(t *testing.T) {
	for name, choose := range map[string]func(*testbed.EtcdCluster) *testbed.Etcd{
		"the leader": (*testbed.EtcdCluster).Leader,
		"a follower": func(c *testbed.EtcdCluster) *testbed.Etcd {
			leader := c.Leader()
			return c.Members[slices.IndexFunc(c.Members, func(e *testbed.Etcd) bool { return e != leader })]
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := newClusterTrial(t, testbed.EtcdClusterOptions{Separable: true})
			member := choose(o.cluster)
			o.cluster.Separate(member)
			began := time.Now()
			update(t, o.given[0], func(in *registry.Instance) { in.Version = "meanwhile" })
			t.Logf("an update took %v", time.Since(began))
			o.all("a change, through the other members", func(p pair) bool { return p.err == nil && p.find("i0").Version == "meanwhile" })
			t.Logf("every watcher had it after %v", time.Since(began))
			o.converges("without it")

			// From here on nobody comes back to it, but for a look now and then.
			began = time.Now()
			o.calls.since.Store(began.UnixNano()) // what was on its way to it may end now
			before := o.calls.isolated.Load()
			const rounds = 20
			for round := range rounds {
				for _, g := range o.given {
					update(t, g, func(in *registry.Instance) { in.Zone = fmt.Sprint(round) })
				}
			}
			met, looks := o.calls.isolated.Load()-before, int64(1+time.Since(began)/avoidance)
			t.Logf("%d of %d updates in %v met it", met, rounds*len(o.given), time.Since(began))
			// Each that follows or announces may have one on its way when the first of a client learns of it.
			if most := int64(len(o.given)+len(o.watchers)) * looks; met > most {
				t.Errorf("%d calls met the member that is cut off, want %d at the most", met, most)
			}
			o.cluster.Reunite()
			o.converges("with it")
		})
	}
}

// A member that is cut off knows an entry as it was, and must not be believed that it still is.
func TestGoingOnNeedsAMajority(t *testing.T) {
	cluster := testbed.StartEtcdCluster(t, testbed.EtcdClusterOptions{Separable: true})
	leader := cluster.Leader()
	member := cluster.Members[slices.IndexFunc(cluster.Members, func(e *testbed.Etcd) bool { return e != leader })]
	d := driverFor(t, Config{Endpoints: []string{member.Addr()}, Timeout: 2 * time.Second, TTL: patience})
	t.Cleanup(func() { d.Close() })
	in := registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80"}
	o := &leaseTrial{T: t, driver: d, instance: in}
	o.giveUp(o.announce())
	cluster.Separate(member)
	_, err := d.Announce(o.ctx(), &in)
	wantKind(t, err, registry.ErrUnavailable)
	cluster.Reunite()
	eventually(t, "it is announced again", func() bool { _, err := d.Announce(o.ctx(), &in); return err == nil })
}
