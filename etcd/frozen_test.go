package etcd_test

import (
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/etcd"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// frozenTTL is the shortest that etcd's driver allows.
const frozenTTL = 5 * time.Second

// The leader of three members pauses for longer than the TTL. When it goes on, it revokes leases that the new leader has renewed
// meanwhile (etcd issue 15247).
func TestWatch_KeepsMostInstancesAfterTheLeaderPauses(t *testing.T) {
	t.Parallel()
	cluster := testbed.StartEtcdCluster(t)
	c := etcd.Config{Endpoints: cluster.Addrs(), TTL: frozenTTL, Timeout: 2 * time.Second, KeepAliveTimeout: time.Second}
	fleet := watchtest.StartFleet(t, 6, func() *registry.Registry {
		d, err := etcd.NewDriver(c)
		if err != nil {
			t.Fatal(err)
		}
		return watchtest.NewRegistry(t, d, c.Options)
	})
	for range 4 { // about half of the leaders learn of the new one before they revoke anything
		fleet.KeepsMostInstances(cluster.Leader(), frozenTTL+3*time.Second)
	}
}
