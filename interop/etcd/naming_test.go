package etcd_test

import (
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.etcd.io/etcd/client/v3/naming/resolver"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/rollcall-go/rollcall/etcd"
	"github.com/rollcall-go/rollcall/internal/grpctest"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

func TestRegister_IsFoundByNaming(t *testing.T) {
	server := testbed.StartEtcd(t)
	r, client := connect(t, server, etcd.FormatNaming), clientOf(t, server)
	one, other := grpctest.StartServer(t), grpctest.StartServer(t)
	g := watchtest.Register(t, r, registry.Instance{ID: "a", Service: "greeter", Address: one, Version: "v1", Tags: []string{"x"}})
	plain := watchtest.Register(t, r, registry.Instance{ID: "b", Service: "greeter", Address: other})

	manager, err := endpoints.NewManager(client, "greeter")
	if err != nil {
		t.Fatal(err)
	}
	all, err := manager.List(watchtest.Context(t))
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
	grpctest.CallsReach(t, conn, one, other)
	watchtest.Deregister(t, plain)
	grpctest.CallsReach(t, conn, one)
	in := g.Instance()
	in.Address = other
	if err := g.Update(watchtest.Context(t), in); err != nil {
		t.Fatal(err)
	}
	grpctest.CallsReach(t, conn, other)
}

func TestWatch_FindsRegistrationsOfNaming(t *testing.T) {
	server := testbed.StartEtcd(t)
	r, client := connect(t, server, etcd.FormatNaming), clientOf(t, server)
	manager, err := endpoints.NewManager(client, "greeter")
	if err != nil {
		t.Fatal(err)
	}
	lease, err := client.Grant(watchtest.Context(t), 60)
	if err != nil {
		t.Fatal(err)
	}
	add := func(key string, e endpoints.Endpoint) {
		t.Helper()
		if err := manager.AddEndpoint(watchtest.Context(t), key, e, clientv3.WithLease(lease.ID)); err != nil {
			t.Fatal(err)
		}
	}
	add("greeter/[::1]:80", endpoints.Endpoint{Addr: "[::1]:80"})
	add("greeter/eu/1", endpoints.Endpoint{Addr: "10.0.0.1:80", Metadata: map[string]any{"version": "v2", "weight": 3}})
	w := watchtest.Watch(t, r, registry.Query{Service: "greeter"})
	set := w.Until("both", watchtest.At("10.0.0.1:80", "[::1]:80")).Set
	if set[0].ID != "[::1]:80" || set[1].ID != "eu/1" || set[1].Version != "v2" || set[1].Metadata["weight"] != "3" || set[1].Weight != 1 {
		t.Errorf("they are %+v and %+v", set[0], set[1])
	}
	wantServices(t, r, "greeter")

	add("greeter/eu/1", endpoints.Endpoint{Addr: "10.0.0.2:80"})
	w.Until("the move", watchtest.At("10.0.0.2:80", "[::1]:80"))
	if err := manager.DeleteEndpoint(watchtest.Context(t), "greeter/[::1]:80"); err != nil {
		t.Fatal(err)
	}
	w.Until("the departure", watchtest.At("10.0.0.2:80"))
	if _, err := client.Revoke(watchtest.Context(t), lease.ID); err != nil {
		t.Fatal(err)
	}
	w.Until("the end of the lease", watchtest.Healthy(0))
}
