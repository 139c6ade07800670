package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rollcall-go/rollcall/etcd"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
)

// etcdCluster is three members. All registries know all of them.
type etcdCluster struct {
	*testbed.EtcdCluster
	operator *clientv3.Client
}

func newEtcdCluster(tb testing.TB) cluster {
	c := testbed.StartEtcdCluster(tb, testbed.EtcdClusterOptions{Separable: true})
	operator, err := clientv3.New(clientv3.Config{Endpoints: c.Addrs()})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { operator.Close() })
	return &etcdCluster{c, operator}
}

func (c *etcdCluster) open(context.Context) (*registry.Registry, error) {
	return etcd.New(etcd.Config{Endpoints: c.Addrs(), TTL: ttl})
}

// faults lets half of the instances be missing if a deposed leader comes back: it revokes what has expired by its clock.
func (c *etcdCluster) faults() []fault {
	return []fault{
		{"a follower is killed", 0, func(ctx context.Context, rng *rand.Rand) error { return c.kill(ctx, rng, c.follower(rng)) }},
		{"the leader is killed", 0, func(ctx context.Context, rng *rand.Rand) error { return c.kill(ctx, rng, c.Leader()) }},
		{"the leader pauses", half, func(ctx context.Context, rng *rand.Rand) error {
			return freeze(ctx, rng, c.Leader(), 5*time.Second, 20*time.Second)
		}},
		{"a follower pauses", 0, func(ctx context.Context, rng *rand.Rand) error {
			return freeze(ctx, rng, c.follower(rng), 5*time.Second, 20*time.Second)
		}},
		{"the leader is cut off from the others", half, func(ctx context.Context, rng *rand.Rand) error {
			c.Separate(c.Leader())
			defer c.Reunite()
			pause(ctx, rng, time.Second, 20*time.Second)
			return nil
		}},
		{"two members are killed", 0, c.loseQuorum},
		{"the history is compacted", 0, c.compact},
		{"a lease is revoked", 1, c.revoke},
		{"an entry is deleted", 1, c.deleteEntry},
	}
}

func (c *etcdCluster) follower(rng *rand.Rand) *testbed.Etcd {
	leader, i := c.Leader(), rng.IntN(len(c.Members))
	if c.Members[i] == leader {
		i = (i + 1) % len(c.Members)
	}
	return c.Members[i]
}

func (c *etcdCluster) kill(ctx context.Context, rng *rand.Rand, e *testbed.Etcd) error {
	e.Kill()
	pause(ctx, rng, time.Second, 20*time.Second)
	e.Restart(true)
	return nil
}

// loseQuorum kills two members, so that the third can neither write nor read.
func (c *etcdCluster) loseQuorum(ctx context.Context, rng *rand.Rand) error {
	first := rng.IntN(len(c.Members))
	second := (first + 1) % len(c.Members)
	c.Members[first].Kill()
	c.Members[second].Kill()
	pause(ctx, rng, time.Second, 15*time.Second)
	c.Members[first].Restart(true)
	c.Members[second].Restart(true)
	return nil
}

// operatorTimeout bounds what an operator does. A call at a member that hangs would never end.
const operatorTimeout = 30 * time.Second

// compact compacts the history while a member is paused, so that the watches there miss it.
func (c *etcdCluster) compact(ctx context.Context, rng *rand.Rand) error {
	leader, paused := c.Leader(), c.follower(rng)
	paused.Stop()
	defer paused.Continue()
	pause(ctx, rng, 0, 5*time.Second)
	ctx, cancel := context.WithTimeout(ctx, operatorTimeout)
	defer cancel()
	operator, err := clientv3.New(clientv3.Config{Endpoints: []string{leader.Addr()}}) // c.operator may use the paused member
	if err != nil {
		return err
	}
	defer operator.Close()
	got, err := operator.Get(ctx, "no-such-key")
	if err != nil {
		return err
	}
	_, err = operator.Compact(ctx, got.Header.Revision)
	return err
}

// entry returns an entry of a steady instance, and its lease.
func (c *etcdCluster) entry(ctx context.Context, rng *rand.Rand) (key string, lease clientv3.LeaseID, err error) {
	got, err := c.operator.Get(ctx, etcd.DefaultPrefix, clientv3.WithPrefix())
	if err != nil {
		return "", 0, err
	}
	for _, i := range rng.Perm(len(got.Kvs)) {
		if isSteady(string(got.Kvs[i].Key)) {
			return string(got.Kvs[i].Key), clientv3.LeaseID(got.Kvs[i].Lease), nil
		}
	}
	return "", 0, errors.New("there is no entry of a " + steady + " instance")
}

func (c *etcdCluster) revoke(ctx context.Context, rng *rand.Rand) error {
	ctx, cancel := context.WithTimeout(ctx, operatorTimeout)
	defer cancel()
	_, lease, err := c.entry(ctx, rng)
	if err != nil {
		return err
	}
	_, err = c.operator.Revoke(ctx, lease)
	return err
}

func (c *etcdCluster) deleteEntry(ctx context.Context, rng *rand.Rand) error {
	ctx, cancel := context.WithTimeout(ctx, operatorTimeout)
	defer cancel()
	key, _, err := c.entry(ctx, rng)
	if err != nil {
		return err
	}
	_, err = c.operator.Delete(ctx, key)
	return err
}
