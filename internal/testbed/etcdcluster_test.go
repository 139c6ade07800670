package testbed

import (
	"context"
	"testing"
	"time"
)

func TestEtcdCluster_OutlivesItsLeader(t *testing.T) {
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

func TestEtcdCluster_SeparatesMember(t *testing.T) {
	t.Parallel()
	c := StartEtcdCluster(t, EtcdClusterOptions{Separable: true})
	alone := c.Leader()
	alone.put(t, "before")
	c.Separate(alone)
	// The others elect a leader and accept a write. The separated member answers no read that could be out of date.
	other := c.Members[0]
	if other == alone {
		other = c.Members[1]
	}
	await(t, "the others go on", func(ctx context.Context) error { return c.ready(ctx, other) })
	other.put(t, "after")
	short, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if value, err := alone.get(short); err == nil {
		t.Errorf("the separated member says that the value is %q", value)
	}
	c.Reunite()
	await(t, "the cluster is whole again", func(ctx context.Context) error { return c.ready(ctx, alone) })
	for _, e := range c.Members {
		wantValue(t, e, "after")
	}
}

// await makes attempts until one succeeds.
func await(t *testing.T, what string, attempt func(context.Context) error) {
	t.Helper()
	if err := retry(attempt); err != nil {
		t.Fatalf("waited %v for this: %s: %v", readyTimeout, what, err)
	}
}
