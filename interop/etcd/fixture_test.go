// Package etcd_test tests the formats of package etcd with other frameworks: their clients find and call what Rollcall registers, and
// Rollcall finds what their servers register.
package etcd_test

import (
	"slices"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/rollcall-go/rollcall/etcd"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// The frameworks keep connections and goroutines until the process ends, so these tests do not check for goroutines that are still
// running. The tests of package etcd do.

// connect returns our client of an etcd, with a format.
func connect(t *testing.T, server *testbed.Etcd, format string) *registry.Registry {
	t.Helper()
	d, err := etcd.NewDriver(etcd.Config{Endpoints: []string{server.Addr()}, Format: format, TTL: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return watchtest.NewRegistry(t, d, registry.Options{})
}

// clientOf returns etcd's own client.
func clientOf(t *testing.T, server *testbed.Etcd) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{server.Addr()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func wantServices(t *testing.T, r *registry.Registry, want ...string) {
	t.Helper()
	names, err := r.Services(watchtest.Context(t))
	if err != nil || !slices.Equal(names, want) {
		t.Errorf("the services are %q, %v, want %q", names, err, want)
	}
}
