package etcd

import (
	"fmt"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/etcd/internal/etcdtest"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// mostMissing is how long an instance may be missing: on a machine with nothing else to do it takes less than 2 s.
const mostMissing = 6 * time.Second

// A leader that pauses for longer than the TTL revokes, when it continues, leases that the new leader has renewed meanwhile (etcd issue
// 15247). The instances are registered again at once.
func TestRegistration_ReturnsAfterADeposedLeaderRevokes(t *testing.T) {
	t.Parallel()
	cluster := testbed.StartEtcdCluster(t)
	r := openWith(t, Config{Endpoints: cluster.Addrs(), TTL: minTTL, Timeout: 2 * time.Second, KeepAliveTimeout: time.Second})
	var all []registry.Registration
	for i := range 6 {
		all = append(all, watchtest.Register(t, r, registry.Instance{ID: fmt.Sprint(i), Service: "s", Address: "10.0.0.1:80"}))
	}
	d := driverFor(t, Config{Endpoints: cluster.Addrs(), Timeout: 2 * time.Second})
	t.Cleanup(func() { d.Close() })
	leader := cluster.Leader()
	leader.Stop()
	for _, g := range all {
		watchtest.Eventually(t, "it is registered without the leader", func() bool { return g.Err() == nil })
	}
	for _, member := range cluster.Members {
		if member != leader {
			etcdtest.AwaitExpiry(t, etcdtest.Operator(t, member), minTTL+3*time.Second) // otherwise the old leader revokes nothing
			break
		}
	}
	for _, g := range all {
		watchtest.Eventually(t, "it is registered without the leader", func() bool { return g.Err() == nil })
	}
	s := d.Watch(registry.Query{Service: "s"}).(*source)
	t.Cleanup(func() { s.Close() })
	watchtest.Eventually(t, "all are there", func() bool { set, err := next(watchtest.Context(t), s); return err == nil && len(set) == 6 })
	leader.Continue()
	began := time.Now()
	// While the leader notices, missing instances must be back soon, and none may count as having left on purpose.
	missing, longest := time.Time{}, time.Duration(0)
	losses := 0
	for time.Since(began) < 10*time.Second {
		read, err := s.Next(watchtest.Within(t, time.Second))
		set := read.Instances
		if len(read.Departed) > 0 {
			t.Errorf("%v are said to have left on purpose", read.Departed)
		}
		if err != nil {
			if len(s.set) < 6 && missing.IsZero() {
				missing = time.Now()
			}
			continue
		}
		switch {
		case len(set) < 6 && missing.IsZero():
			missing = time.Now()
			losses++
		case len(set) == 6 && !missing.IsZero():
			longest, missing = max(longest, time.Since(missing)), time.Time{}
		}
	}
	if !missing.IsZero() {
		t.Errorf("%d of 6 are there", len(s.set))
	}
	if longest > mostMissing {
		t.Errorf("some were missing for %v, more than %v", longest, mostMissing)
	}
	t.Logf("%d losses, the longest of %v", losses, longest)
	for _, g := range all {
		watchtest.Eventually(t, "it is registered", func() bool { return g.Err() == nil })
	}
}
