package etcd

import (
	"errors"
	"fmt"
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

func newClusterTrial(t *testing.T) *clusterTrial {
	o := &clusterTrial{T: t, cluster: testbed.StartEtcdCluster(t), calls: new(meter)}
	c := Config{Endpoints: o.cluster.Addrs(), Timeout: 2 * time.Second, KeepAliveTimeout: time.Second}
	r := openWith(t, c, o.calls.option())
	for i := range 6 {
		in := registry.Instance{ID: fmt.Sprint("i", i), Service: "s", Address: "10.0.0.1:80", Version: "0"}
		o.given = append(o.given, register(t, r, in))
	}
	for i := range 6 {
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
func (t *clusterTrial) converges(version string, limit time.Duration) {
	t.Helper()
	began := time.Now()
	for _, g := range t.given {
		eventually(t, "the announcement stands", func() bool { return g.Err() == nil })
	}
	t.all("all instances", healthy(6))
	took := time.Since(began)
	t.Logf("converged after %v", took)
	if took > limit {
		t.Errorf("it took %v, more than %v", took, limit)
	}
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
		o.converges(fmt.Sprint("without it ", i), healed)
		leader.Restart(true)
		o.converges(fmt.Sprint("with it ", i), healed)
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
	o.converges("back", healed)
}

func TestAMemberThatHangs(t *testing.T) {
	o := newClusterTrial(t)
	member := o.cluster.Members[0]
	if member == o.cluster.Leader() {
		member = o.cluster.Members[1]
	}
	member.Stop()
	// Nothing is lost by it, and what depended on it finds out: gRPC probes a silent connection after 10 s.
	update(t, o.given[0], func(in *registry.Instance) { in.Version = "1" })
	o.all("a change, through the other members", func(p pair) bool { return p.err == nil && p.find("i0").Version == "1" })
	o.converges("without it", patience)
	member.Continue()
	o.converges("with it", healed)
}
