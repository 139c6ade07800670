package contender

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
)

// What the bench writes for Rollcall is what Rollcall writes.
func TestRollcallForm(t *testing.T) {
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
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{server.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	key, value := in.KeyValue(Rollcall)
	got, err := c.Get(ctx, key)
	if err != nil || len(got.Kvs) != 1 {
		t.Fatalf("%s: %v, %v", key, got, err)
	}
	theirs, ours := new(registry.Instance), new(registry.Instance)
	for text, to := range map[string]*registry.Instance{string(got.Kvs[0].Value): theirs, value: ours} {
		if err := json.Unmarshal([]byte(text), to); err != nil {
			t.Fatal(err)
		}
	}
	if !theirs.Equal(ours) {
		t.Errorf("Rollcall writes %s, and the bench %s", got.Kvs[0].Value, value)
	}
}
