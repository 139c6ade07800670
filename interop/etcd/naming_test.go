package etcd_test

import (
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.etcd.io/etcd/client/v3/naming/resolver"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/rollcall-go/rollcall/etcd"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
)

func TestNamingFindsWhatWeAnnounce(t *testing.T) {
	server := testbed.StartEtcd(t)
	r, client := connect(t, server, etcd.FormatNaming), clientOf(t, server)
	one, other := startBackend(t), startBackend(t)
	g := register(t, r, registry.Instance{ID: "a", Service: "greeter", Address: one, Version: "v1", Tags: []string{"x"}})
	plain := register(t, r, registry.Instance{ID: "b", Service: "greeter", Address: other})

	manager, err := endpoints.NewManager(client, "greeter")
	if err != nil {
		t.Fatal(err)
	}
	all, err := manager.List(within(t))
	if err != nil || len(all) != 2 || all["greeter/a"].Addr != one || all["greeter/b"].Addr != other {
		t.Errorf("the manager lists %v, %v", all, err)
	}
	if m, ok := all["greeter/a"].Metadata.(map[string]any); !ok || m["version"] != "v1" {
		t.Errorf("the metadata is %v", all["greeter/a"].Metadata)
	}
	if m := all["greeter/b"].Metadata; m != nil {
		t.Errorf("the metadata of an instance without any is %v", m)
	}

	builder, err := resolver.NewBuilder(client)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("etcd:///greeter", grpc.WithResolvers(builder), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	callsReach(t, conn, one, other)
	deregister(t, plain)
	callsReach(t, conn, one)
	in := g.Instance()
	in.Address = other
	if err := g.Update(within(t), in); err != nil {
		t.Fatal(err)
	}
	callsReach(t, conn, other)
}

func TestWeFindWhatNamingAnnounces(t *testing.T) {
	server := testbed.StartEtcd(t)
	r, client := connect(t, server, etcd.FormatNaming), clientOf(t, server)
	manager, err := endpoints.NewManager(client, "greeter")
	if err != nil {
		t.Fatal(err)
	}
	lease, err := client.Grant(within(t), 60)
	if err != nil {
		t.Fatal(err)
	}
	add := func(key string, e endpoints.Endpoint) {
		t.Helper()
		if err := manager.AddEndpoint(within(t), key, e, clientv3.WithLease(lease.ID)); err != nil {
			t.Fatal(err)
		}
	}
	add("greeter/[::1]:80", endpoints.Endpoint{Addr: "[::1]:80"})
	add("greeter/eu/1", endpoints.Endpoint{Addr: "10.0.0.1:80", Metadata: map[string]any{"version": "v2", "weight": 3}})
	set := until(t, r, "greeter", "both", at("10.0.0.1:80", "[::1]:80"))
	if set[0].ID != "[::1]:80" || set[1].ID != "eu/1" || set[1].Version != "v2" || set[1].Metadata["weight"] != "3" || set[1].Weight != 1 {
		t.Errorf("they are %+v and %+v", set[0], set[1])
	}
	wantServices(t, r, "greeter")

	add("greeter/eu/1", endpoints.Endpoint{Addr: "10.0.0.2:80"})
	until(t, r, "greeter", "the move", at("10.0.0.2:80", "[::1]:80"))
	if err := manager.DeleteEndpoint(within(t), "greeter/[::1]:80"); err != nil {
		t.Fatal(err)
	}
	until(t, r, "greeter", "the departure", at("10.0.0.2:80"))
	if _, err := client.Revoke(within(t), lease.ID); err != nil {
		t.Fatal(err)
	}
	until(t, r, "greeter", "the end of the lease", none)
}
