package etcd_test

import (
	"errors"
	"testing"
	"time"

	micro "github.com/go-micro/plugins/v4/registry/etcd"
	microregistry "go-micro.dev/v4/registry"

	"github.com/rollcall-go/rollcall/etcd"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

func TestWatch_FindsRegistrationsOfGoMicro(t *testing.T) {
	server := testbed.StartEtcd(t)
	r := connect(t, server, etcd.FormatGoMicro)
	theirs := micro.NewRegistry(microregistry.Addrs(server.Addr()))
	service := &microregistry.Service{
		Name: "go/micro.greeter", Version: "latest", Metadata: map[string]string{"team": "a", "zone": "z0"},
		Endpoints: []*microregistry.Endpoint{{Name: "Greeter.Hello", Request: &microregistry.Value{Name: "Request", Type: "Request"}}},
		Nodes: []*microregistry.Node{
			{Id: "greeter/1", Address: "10.0.0.1:80", Metadata: map[string]string{"protocol": "grpc", "zone": "z1"}},
			{Id: "greeter-2", Address: "10.0.0.2:80"},
		},
	}
	registerTheirs := func() {
		t.Helper()
		if err := theirs.Register(service, microregistry.RegisterTTL(60*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	registerTheirs()
	const name = "go-micro.greeter" // in the keys
	w := watchtest.Watch(t, r, registry.Query{Service: name})
	set := w.Until("both nodes", watchtest.At("10.0.0.1:80", "10.0.0.2:80")).Set
	first := &registry.Instance{
		ID: "greeter-1", Service: name, Address: "10.0.0.1:80", Version: "latest", Zone: "z1", Weight: 1,
		Metadata: map[string]string{"team": "a", "protocol": "grpc", "zone": "z1"},
	}
	if !set[0].Equal(first) || set[1].ID != "greeter-2" || set[1].Zone != "z0" || set[1].Metadata["team"] != "a" {
		t.Errorf("they are %+v and %+v", set[0], set[1])
	}
	wantServices(t, r, name)

	service.Nodes[1].Address = "10.0.0.3:80"
	registerTheirs()
	w.Until("the move", watchtest.At("10.0.0.1:80", "10.0.0.3:80"))
	if err := theirs.Deregister(&microregistry.Service{Name: service.Name, Nodes: service.Nodes[:1]}); err != nil {
		t.Fatal(err)
	}
	w.Until("the departure", watchtest.At("10.0.0.3:80"))

	if _, err := r.Register(watchtest.Context(t), registry.Instance{Service: name, Address: "10.0.0.4:80"}); !errors.Is(err, registry.ErrUnsupported) {
		t.Errorf("registering in their format is %v", err)
	}
}
