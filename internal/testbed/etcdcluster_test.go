package testbed

import "testing"

func TestEtcdClusterOutlivesItsLeader(t *testing.T) {
	t.Parallel()
	c := StartEtcdCluster(t)
	if len(c.Addrs()) != 3 {
		t.Errorf("the members are %v", c.Addrs())
	}
	leader := c.Leader()
	leader.put(t, "kept")
	leader.Kill()
	leader.Restart(true) // it is ready when the others, or they and it, have elected one
	c.Leader()
	for _, e := range c.Members {
		wantValue(t, e, "kept")
	}
}
