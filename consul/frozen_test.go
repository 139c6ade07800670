package consul_test

import (
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/consul"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// frozenTTL is the shortest that Consul's driver allows.
const frozenTTL = 3 * time.Second

// open returns a Registry that is closed with the test.
func open(t *testing.T, c consul.Config) *registry.Registry {
	t.Helper()
	d, err := consul.NewDriver(c)
	if err != nil {
		t.Fatal(err)
	}
	return watchtest.NewRegistry(t, d, c.Options)
}

// The only agent pauses for longer than the TTL, as it may if its virtual machine is moved. When it goes on, every instance whose heartbeat
// it missed is critical.
func TestWatch_KeepsMostInstancesAfterTheAgentPauses(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	fleet := watchtest.StartFleet(t, 6, func() *registry.Registry {
		return open(t, consul.Config{Address: agent.Addr(), TTL: frozenTTL})
	})
	fleet.KeepsMostInstances(agent, 3*frozenTTL)
}

// The leader of three servers freezes, while the agent and all instances are well. The agent uses that server, so heartbeats get no answer.
func TestWatch_KeepsMostInstancesAfterTheLeaderPauses(t *testing.T) {
	t.Parallel()
	cluster := testbed.StartConsulCluster(t)
	c := consul.Config{Address: cluster.Agent.Addr(), Token: registry.NewSecret(cluster.Token), TTL: frozenTTL}
	fleet := watchtest.StartFleet(t, 6, func() *registry.Registry { return open(t, c) })
	moveLeaderToAgent(t, cluster)
	fleet.KeepsMostInstances(cluster.Leader(), 30*time.Second)
}

// moveLeaderToAgent moves the leadership until the leader is the server that the client agent uses.
func moveLeaderToAgent(t *testing.T, cluster *testbed.ConsulCluster) {
	t.Helper()
	operator := operatorAt(t, cluster.Agent.Addr(), cluster.Token)
	for deadline := time.Now().Add(watchtest.Timeout); !readsFromLeader(t, operator); {
		if time.Now().After(deadline) {
			t.Fatal("the agent does not use the leader")
		}
		if _, err := operator.Operator().RaftLeaderTransfer("", nil); err != nil {
			t.Logf("the leadership was not moved: %v", err) // the next attempt may move it
		}
		cluster.Leader()
	}
}

// readsFromLeader reports whether the agent's reads are answered by the leader: only a leader is never behind the leader.
func readsFromLeader(t *testing.T, operator *api.Client) bool {
	t.Helper()
	for range 20 {
		_, meta, err := operator.Catalog().Nodes(&api.QueryOptions{AllowStale: true})
		if err != nil || meta.LastContact > 0 {
			return false
		}
	}
	return true
}
