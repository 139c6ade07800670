package contender

import (
	"context"
	"encoding/json"
	"maps"
	"reflect"
	"testing"
	"time"

	microetcd "github.com/go-micro/plugins/v4/registry/etcd"
	microregistry "go-micro.dev/v4/registry"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
)

// What the bench writes for Rollcall is what Rollcall writes.
func TestKeyValue_IsWhatRollcallWrites(t *testing.T) {
	server := testbed.StartEtcd(t)
	r, err := OpenRollcall("etcd", server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	in := Instance{Number: 7, Service: "s", Address: "10.0.0.7:9000"}
	ctx, end := context.WithTimeout(context.Background(), time.Minute)
	defer end()
	own := registry.Instance{ID: in.ID(), Service: "s", Address: in.Address, Version: Version, Zone: Zone, Metadata: Metadata}
	if _, err := r.Register(ctx, own); err != nil {
		t.Fatal(err)
	}
	key, value := in.KeyValue(Rollcall)
	stored := valueAt(t, server, key)
	if stored != value {
		t.Errorf("Rollcall writes %s, and the bench %s", stored, value)
	}
}

// What the bench writes for go-micro is what go-micro writes.
func TestKeyValue_IsWhatGoMicroWrites(t *testing.T) {
	server := testbed.StartEtcd(t)
	r := microetcd.NewRegistry(microregistry.Addrs(server.Addr()))
	in := Instance{Number: 7, Service: "s", Address: "10.0.0.7:9000"}
	data := maps.Clone(Metadata)
	data["zone"] = Zone
	own := &microregistry.Service{Name: "s", Version: Version, Nodes: []*microregistry.Node{{Id: in.ID(), Address: in.Address, Metadata: data}}}
	if err := r.Register(own, microregistry.RegisterTTL(time.Minute)); err != nil {
		t.Fatal(err)
	}
	key, value := in.KeyValue(GoMicro)
	stored := valueAt(t, server, key)
	var theirs, ours any
	for text, to := range map[string]*any{stored: &theirs, value: &ours} {
		if err := json.Unmarshal([]byte(text), to); err != nil {
			t.Fatal(err)
		}
	}
	if !reflect.DeepEqual(theirs, ours) {
		t.Errorf("go-micro writes %s, and the bench %s", stored, value)
	}
}

// valueAt returns the value at a key.
func valueAt(t *testing.T, server *testbed.Etcd, key string) string {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{server.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, end := context.WithTimeout(t.Context(), time.Minute)
	defer end()
	got, err := c.Get(ctx, key)
	if err != nil || len(got.Kvs) != 1 {
		t.Fatalf("%s: %v, %v", key, got, err)
	}
	return string(got.Kvs[0].Value)
}
