package etcd

import (
	"errors"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rollcall-go/rollcall/etcd/internal/etcdtest"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// fill writes to an etcd until it has no space.
func fill(t *testing.T, operator *clientv3.Client) {
	t.Helper()
	for {
		_, err := operator.Put(watchtest.Context(t), "/ballast", strings.Repeat("x", 1<<20))
		if err != nil {
			if !strings.Contains(err.Error(), "database space exceeded") {
				t.Fatal(err)
			}
			return
		}
	}
}

// drain undoes fill.
func drain(t *testing.T, operator *clientv3.Client) {
	t.Helper()
	got, err := operator.Get(watchtest.Context(t), "/ballast")
	if err == nil {
		_, err = operator.Compact(watchtest.Context(t), got.Header.Revision, clientv3.WithCompactPhysical())
	}
	if err == nil {
		_, err = operator.Defragment(watchtest.Context(t), operator.Endpoints()[0])
	}
	if err == nil {
		_, err = operator.AlarmDisarm(watchtest.Context(t), &clientv3.AlarmMember{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// While etcd has no space, it refuses writes but renews leases: the old content stays registered.
func TestLease_NoSpaceKeepsTheOldContent(t *testing.T) {
	t.Parallel()
	server := testbed.StartEtcd(t, testbed.EtcdOptions{Args: []string{"--quota-backend-bytes=8388608"}})
	operator := etcdtest.Operator(t, server)
	way := newNetwork(t, server.Addr())
	d := driverFor(t, Config{Endpoints: []string{way.addr()}, TTL: minTTL})
	t.Cleanup(func() { d.Close() })
	o := &leaseTrial{T: t, way: way, driver: d, operator: operator, key: d.keyOf("s", "a"),
		instance: registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80", Version: "1", Weight: 1}}
	l := o.register()
	end := o.keep(l)
	fill(t, operator)
	stays := func(what string, meanwhile func()) {
		t.Helper()
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for began := time.Now(); time.Since(began) < 2*minTTL; <-tick.C {
			meanwhile()
			if e := o.entry(); e == nil || e.lease != l.id || !strings.Contains(e.value, `"version":"1"`) {
				t.Fatalf("%s: etcd has %+v", what, e)
			}
		}
	}
	changed := o.instance
	changed.Version = "2"
	stays("updates are refused", func() { wantKind(t, l.Update(o.ctx(), &changed), registry.ErrUnavailable) })

	// After the lease was lost, the same content resumes it, and a refused registration renews it.
	way.cut()
	o.endsWith(end, registry.ErrUnavailable)
	way.heal()
	l = o.registerAgain(l)
	o.giveUp(l)
	var prev registry.Lease = l
	stays("registrations are refused", func() {
		failed, err := d.Register(o.ctx(), &changed, prev)
		if failed != nil {
			prev = failed
		}
		wantKind(t, err, registry.ErrUnavailable)
		if errors.Is(err, registry.ErrReplaced) {
			t.Fatal(err)
		}
	})
	drain(t, operator)
	again, err := d.Register(o.ctx(), &changed, prev)
	if err != nil {
		t.Fatal(err)
	}
	if e := o.entry(); e == nil || e.lease != again.(*lease).id || !strings.Contains(e.value, `"version":"2"`) {
		t.Errorf("with space again etcd has %+v", e)
	}
}

// A release needs no space.
func TestRelease_NoSpace(t *testing.T) {
	t.Parallel()
	server := testbed.StartEtcd(t, testbed.EtcdOptions{Args: []string{"--quota-backend-bytes=8388608"}})
	operator := etcdtest.Operator(t, server)
	d := driverFor(t, Config{Endpoints: []string{server.Addr()}})
	t.Cleanup(func() { d.Close() })
	o := &leaseTrial{T: t, driver: d, operator: operator, key: d.keyOf("s", "a"), instance: registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80"}}
	l := o.register()
	fill(t, operator)
	o.must(l.Release(o.ctx()))
	if e := o.entry(); e != nil {
		t.Errorf("etcd has %+v", e)
	}
}
