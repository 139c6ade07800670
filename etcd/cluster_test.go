package etcd

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/etcd/internal/conn"
	"github.com/rollcall-go/rollcall/etcd/internal/etcdtest"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// clusterTrial is a service with several instances on a cluster, and several watchers, since calls go to all members in turn.
type clusterTrial struct {
	*testing.T
	cluster  *testbed.EtcdCluster
	calls    *meter
	given    []registry.Registration
	watchers []*watchtest.Watcher
}

const clusterClients = 5

func newClusterTrial(t *testing.T, options ...testbed.EtcdClusterOptions) *clusterTrial {
	cluster := testbed.StartEtcdCluster(t, options...)
	return newClusterTrialBy(t, cluster, Config{Endpoints: cluster.Addrs(), Timeout: 2 * time.Second, KeepAliveTimeout: time.Second})
}

// newClusterTrialBy connects to the members with c.
func newClusterTrialBy(t *testing.T, cluster *testbed.EtcdCluster, c Config) *clusterTrial {
	o := &clusterTrial{T: t, cluster: cluster, calls: new(meter)}
	r := openWith(t, c, o.calls.option())
	for i := range 6 {
		in := registry.Instance{ID: fmt.Sprint("i", i), Service: "s", Address: "10.0.0.1:80", Version: "0"}
		o.given = append(o.given, watchtest.Register(t, r, in))
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
		o.watchers = append(o.watchers, watchtest.Watch(t, client, q))
	}
	o.all("all instances", watchtest.Healthy(6))
	return o
}

func (t *clusterTrial) all(what string, ok func(watchtest.Pair) bool) {
	t.Helper()
	for _, w := range t.watchers {
		w.Until(what, ok)
	}
}

// converges waits until all instances are registered, and all watchers see them and a later change. No set on the way may lack an instance.
func (t *clusterTrial) converges(version string) {
	t.Helper()
	began := time.Now()
	for _, g := range t.given {
		watchtest.Eventually(t, "it is registered", func() bool { return g.Err() == nil })
	}
	t.all("all instances", watchtest.Healthy(6))
	t.Logf("converged after %v", time.Since(began))
	watchtest.Update(t, t.given[0], func(in *registry.Instance) { in.Version = version })
	t.all("a change", func(p watchtest.Pair) bool {
		return p.Err == nil && p.Find("i0") != nil && p.Find("i0").Version == version
	})
	for _, w := range t.watchers {
		for _, p := range w.All() {
			if len(p.Set) != 6 {
				t.Fatalf("a watcher saw %v", p)
			}
		}
	}
}

func TestCluster_LeaderIsKilled(t *testing.T) {
	t.Parallel()
	o := newClusterTrial(t)
	for i := range 2 {
		leader := o.cluster.Leader()
		leader.Kill()
		o.converges(fmt.Sprint("without it ", i))
		leader.Restart(true)
		o.converges(fmt.Sprint("with it ", i))
	}
}

func TestCluster_QuorumIsLostAndBack(t *testing.T) {
	t.Parallel()
	o := newClusterTrial(t)
	one, other := o.cluster.Members[0], o.cluster.Members[1]
	one.Kill()
	other.Kill()
	o.all("the last good set beside an error", func(p watchtest.Pair) bool { return len(p.Set) == 6 && errors.Is(p.Err, registry.ErrUnavailable) })
	for _, g := range o.given {
		watchtest.Eventually(t, "Err reports the loss", func() bool { return errors.Is(g.Err(), registry.ErrUnavailable) })
	}
	const users = 12 // watches and registrations
	rate := watchtest.Rate(t, "attempts without a quorum", time.Now(), 10*users, func() int { return int(o.calls.sent.Load()) })
	t.Logf("%.1f messages a second without a quorum, for %d watches and registrations", rate, users)
	if rate > 10*users {
		t.Errorf("%.1f messages a second without a quorum", rate)
	}
	one.Restart(true)
	o.converges("back")
}

func TestCluster_MemberHangs(t *testing.T) {
	t.Parallel()
	cluster := testbed.StartEtcdCluster(t)
	o := newClusterTrialBy(t, cluster, Config{Endpoints: cluster.Addrs()})
	member := o.cluster.Members[0]
	if member == o.cluster.Leader() {
		member = o.cluster.Members[1]
	}
	member.Stop()
	// Nothing is lost, and users of the member notice: gRPC probes an idle connection after 10 s.
	watchtest.Update(t, o.given[0], func(in *registry.Instance) { in.Version = "1" })
	o.all("a change, through the other members", func(p watchtest.Pair) bool { return p.Err == nil && p.Find("i0").Version == "1" })
	etcdtest.AwaitExpiry(t, etcdtest.Operator(t, o.cluster.Members[2]), DefaultTTL+2*DefaultTimeout) // so the leases are renewed, and in time
	o.converges("without it")
	member.Continue()
	o.converges("with it")
}

// The network to a member fails while the member works.
func TestCluster_MemberIsUnreachable(t *testing.T) {
	t.Parallel()
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

// A member that is separated from the others has no leader, and gives no answers that could be out of date. Its clients switch to another
// member.
func TestCluster_MemberIsSeparated(t *testing.T) {
	t.Parallel()
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
			watchtest.Update(t, o.given[0], func(in *registry.Instance) { in.Version = "meanwhile" })
			t.Logf("an update took %v", time.Since(began))
			o.all("a change, through the other members", func(p watchtest.Pair) bool { return p.Err == nil && p.Find("i0").Version == "meanwhile" })
			t.Logf("every watcher had it after %v", time.Since(began))
			o.converges("without it")

			// From here on clients avoid it, except for an attempt after each conn.Avoidance.
			began = time.Now()
			o.calls.since.Store(began.UnixNano()) // calls that were sent to it before may end now
			before := o.calls.isolated.Load()
			const rounds = 20
			for round := range rounds {
				for _, g := range o.given {
					watchtest.Update(t, g, func(in *registry.Instance) { in.Zone = fmt.Sprint(round) })
				}
			}
			met, attempts := o.calls.isolated.Load()-before, int64(1+time.Since(began)/conn.Avoidance)
			t.Logf("%d of %d updates in %v met it", met, rounds*len(o.given), time.Since(began))
			// Each watch and registration may have sent a call when its client notices.
			if most := int64(len(o.given)+len(o.watchers)) * attempts; met > most {
				t.Errorf("%d calls met the separated member, want at most %d", met, most)
			}
			o.cluster.Reunite()
			o.converges("with it")
		})
	}
}

// A separated member still has an entry, which may have changed.
func TestRegister_ResumeNeedsAMajority(t *testing.T) {
	t.Parallel()
	cluster := testbed.StartEtcdCluster(t, testbed.EtcdClusterOptions{Separable: true})
	leader := cluster.Leader()
	member := cluster.Members[slices.IndexFunc(cluster.Members, func(e *testbed.Etcd) bool { return e != leader })]
	d := driverFor(t, Config{Endpoints: []string{member.Addr()}, Timeout: 2 * time.Second, TTL: watchtest.Timeout})
	t.Cleanup(func() { d.Close() })
	in := registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80"}
	o := &leaseTrial{T: t, driver: d, instance: in}
	l := o.register()
	o.giveUp(l)
	cluster.Separate(member)
	_, err := d.Register(o.ctx(), &in, l)
	wantKind(t, err, registry.ErrUnavailable)
	cluster.Reunite()
	watchtest.Eventually(t, "it is registered again", func() bool { _, err := d.Register(o.ctx(), &in, l); return err == nil })
}
