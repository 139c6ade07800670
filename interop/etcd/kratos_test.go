package etcd_test

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/go-kratos/kratos/v2"
	kratosregistry "github.com/go-kratos/kratos/v2/registry"
	kratosgrpc "github.com/go-kratos/kratos/v2/transport/grpc"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rollcall-go/rollcall/etcd"
	"github.com/rollcall-go/rollcall/internal/grpctest"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// kratosStore replaces contrib/registry/etcd, a separate module that the checksum database does not know. It uses the same keys and
// kratos' own JSON of a ServiceInstance, for kratos' own application, client and resolver.
type kratosStore struct {
	client *clientv3.Client
	ttl    int64
}

func kratosKey(in *kratosregistry.ServiceInstance) string {
	return "/microservices/" + in.Name + "/" + in.ID
}

func (s kratosStore) Register(ctx context.Context, in *kratosregistry.ServiceInstance) error {
	value, err := json.Marshal(in)
	if err != nil {
		return err
	}
	lease, err := s.client.Grant(ctx, s.ttl)
	if err == nil {
		_, err = s.client.Put(ctx, kratosKey(in), string(value), clientv3.WithLease(lease.ID))
	}
	return err
}

func (s kratosStore) Deregister(ctx context.Context, in *kratosregistry.ServiceInstance) error {
	_, err := s.client.Delete(ctx, kratosKey(in))
	return err
}

func (s kratosStore) GetService(ctx context.Context, name string) ([]*kratosregistry.ServiceInstance, error) {
	got, err := s.client.Get(ctx, "/microservices/"+name, clientv3.WithPrefix())
	if err != nil {
		return nil, err
	}
	var all []*kratosregistry.ServiceInstance
	for _, kv := range got.Kvs {
		var in *kratosregistry.ServiceInstance
		if err := json.Unmarshal(kv.Value, &in); err != nil {
			return nil, err
		}
		if in.Name == name {
			all = append(all, in)
		}
	}
	return all, nil
}

func (s kratosStore) Watch(ctx context.Context, name string) (kratosregistry.Watcher, error) {
	ctx, cancel := context.WithCancel(ctx)
	events := s.client.Watch(ctx, "/microservices/"+name, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	return &kratosWatcher{kratosStore: s, ctx: ctx, cancel: cancel, name: name, events: events}, nil
}

type kratosWatcher struct {
	kratosStore
	ctx    context.Context
	cancel context.CancelFunc
	name   string
	events clientv3.WatchChan
}

func (w *kratosWatcher) Next() ([]*kratosregistry.ServiceInstance, error) {
	select {
	case <-w.ctx.Done():
		return nil, w.ctx.Err()
	case e := <-w.events:
		if err := e.Err(); err != nil {
			return nil, err
		}
	}
	return w.GetService(w.ctx, w.name)
}

func (w *kratosWatcher) Stop() error {
	w.cancel()
	return nil
}

func TestRegister_IsFoundByKratos(t *testing.T) {
	server := testbed.StartEtcd(t)
	r, store := connect(t, server, etcd.FormatKratos), kratosStore{clientOf(t, server), 60}
	one, other := grpctest.StartServer(t), grpctest.StartServer(t)
	full := registry.Instance{
		ID: "a", Service: "greeter", Address: one, Version: "v1", Zone: "z", Tags: []string{"x"}, Weight: 1,
		Endpoints: map[string]string{"http": "10.0.0.1:81", "not a scheme": "10.0.0.1:82"}, Metadata: map[string]string{"k": "v"},
	}
	g := watchtest.Register(t, r, full)
	watchtest.Register(t, r, registry.Instance{ID: "b", Service: "greeter", Address: other})
	watchtest.Register(t, r, registry.Instance{ID: "c", Service: "greeter-admin", Address: "127.0.0.1:1"})

	all, err := store.GetService(watchtest.Context(t), "greeter")
	if err != nil || len(all) != 2 {
		t.Fatalf("kratos has %v, %v", all, err)
	}
	if in := all[0]; in.ID != "a" || in.Version != "v1" || in.Metadata["k"] != "v" || len(in.Endpoints) != 2 {
		t.Errorf("kratos has %+v", in)
	}

	// Its own client: kratos' resolver, selector and interceptors.
	conn, err := kratosgrpc.DialInsecure(watchtest.Context(t), kratosgrpc.WithEndpoint("discovery:///greeter"), kratosgrpc.WithDiscovery(store),
		kratosgrpc.WithTimeout(watchtest.Timeout))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	grpctest.CallsReach(t, conn, one, other)
	status := func(s registry.Status) {
		t.Helper()
		in := g.Instance()
		in.Status = s
		if err := g.Update(watchtest.Context(t), in); err != nil {
			t.Fatal(err)
		}
	}
	status(registry.Maintenance)
	grpctest.CallsReach(t, conn, other)
	status(registry.Passing)
	grpctest.CallsReach(t, conn, one, other)
	watchtest.Deregister(t, g)
	grpctest.CallsReach(t, conn, other)
}

func TestWatch_FindsRegistrationsOfKratos(t *testing.T) {
	server := testbed.StartEtcd(t)
	r, store := connect(t, server, etcd.FormatKratos), kratosStore{clientOf(t, server), 60}
	app := kratos.New(
		kratos.ID("host-1"), kratos.Name("greeter"), kratos.Version("v3"), kratos.Metadata(map[string]string{"weight": "20", "k": "v"}),
		kratos.Server(kratosgrpc.NewServer(kratosgrpc.Address("127.0.0.1:0"))), kratos.Registrar(store), kratos.StopTimeout(time.Minute),
	)
	var work sync.WaitGroup
	work.Go(func() {
		if err := app.Run(); err != nil {
			t.Errorf("the application: %v", err)
		}
	})
	w := watchtest.Watch(t, r, registry.Query{Service: "greeter"})
	set := w.Until("the application", watchtest.Healthy(1)).Set
	want := &registry.Instance{
		ID: "host-1", Service: "greeter", Address: set[0].Address, Version: "v3", Weight: 20,
		Metadata: map[string]string{"weight": "20", "k": "v"},
	}
	if !set[0].Equal(want) {
		t.Errorf("it is %+v, want %+v", set[0], want)
	}
	wantServices(t, r, "greeter")
	conn, err := kratosgrpc.DialInsecure(watchtest.Context(t), kratosgrpc.WithEndpoint(set[0].Address))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	grpctest.CallsReach(t, conn, set[0].Address)
	if err := app.Stop(); err != nil {
		t.Fatal(err)
	}
	work.Wait()
	w.Until("its departure", watchtest.Healthy(0))
}
