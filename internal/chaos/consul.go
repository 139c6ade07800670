package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/consul"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
)

// consulCluster is three servers, and a client agent that all registries talk to.
type consulCluster struct {
	*testbed.ConsulCluster
	operator *api.Client // at the client agent
}

func newConsulCluster(tb testing.TB) cluster {
	c := testbed.StartConsulCluster(tb)
	operator, err := api.NewClient(&api.Config{Address: c.Agent.Addr(), Token: c.Token, Transport: &http.Transport{DisableKeepAlives: true}})
	if err != nil {
		tb.Fatal(err)
	}
	return &consulCluster{c, operator}
}

func (c *consulCluster) open(context.Context) (*registry.Registry, error) {
	return consul.New(consul.Config{Address: c.Agent.Addr(), Token: registry.NewSecret(c.Token), TTL: ttl})
}

// faults lets half of the instances be missing while heartbeats do not get through: after the TTL, Consul itself says that an instance is
// critical, and after its agent has restarted until the next heartbeat.
func (c *consulCluster) faults() []fault {
	return []fault{
		{"a follower is killed", half, func(ctx context.Context, rng *rand.Rand) error { return c.kill(ctx, rng, c.follower(rng)) }},
		{"the leader is killed", half, func(ctx context.Context, rng *rand.Rand) error { return c.kill(ctx, rng, c.Leader()) }},
		{"the leader pauses", half, func(ctx context.Context, rng *rand.Rand) error {
			return freeze(ctx, rng, c.Leader(), 5*time.Second, 20*time.Second)
		}},
		{"all servers are killed", half, func(ctx context.Context, rng *rand.Rand) error {
			c.KillServers()
			pause(ctx, rng, time.Second, 15*time.Second)
			c.RestartServers()
			return nil
		}},
		{"the agent restarts with its data", half, func(ctx context.Context, rng *rand.Rand) error { return c.restart(ctx, rng, true) }},
		{"the agent restarts without its data", half, func(ctx context.Context, rng *rand.Rand) error { return c.restart(ctx, rng, false) }},
		{"the agent pauses for longer than the TTL", half, func(ctx context.Context, rng *rand.Rand) error { return freeze(ctx, rng, c.Agent, ttl, 4*ttl) }},
		{"an entry is deleted", 1, c.deleteEntry},
	}
}

func (c *consulCluster) follower(rng *rand.Rand) *testbed.Consul {
	leader, i := c.Leader(), rng.IntN(len(c.Servers))
	if c.Servers[i] == leader {
		i = (i + 1) % len(c.Servers)
	}
	return c.Servers[i]
}

func (c *consulCluster) kill(ctx context.Context, rng *rand.Rand, s *testbed.Consul) error {
	s.Kill()
	pause(ctx, rng, time.Second, 20*time.Second)
	s.Restart(true)
	return nil
}

func (c *consulCluster) restart(ctx context.Context, rng *rand.Rand, keepData bool) error {
	c.Agent.Kill()
	pause(ctx, rng, 0, 15*time.Second)
	c.Agent.Restart(keepData)
	return nil
}

// deleteEntry removes one of the entries of the agent, as an operator might.
func (c *consulCluster) deleteEntry(ctx context.Context, rng *rand.Rand) error {
	entries, err := c.operator.Agent().Services()
	if err != nil {
		return err
	}
	for id := range entries {
		if strings.Contains(id, steady) {
			return c.operator.Agent().ServiceDeregisterOpts(id, new(api.QueryOptions).WithContext(ctx))
		}
	}
	return fmt.Errorf("none of the %d entries of the agent is of a %s instance", len(entries), steady)
}

// freezable is a server that can be paused.
type freezable interface {
	Stop()
	Continue()
}

func freeze(ctx context.Context, rng *rand.Rand, s freezable, least, most time.Duration) error {
	s.Stop()
	defer s.Continue()
	pause(ctx, rng, least, most)
	return nil
}
