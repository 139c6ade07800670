package etcd

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// A member that is being replaced is a learner for a while, and refuses nearly every call.
func TestRegister_WithALearnerAmongTheEndpoints(t *testing.T) {
	t.Parallel()
	server := testbed.StartEtcd(t)
	learner := testbed.StartEtcdLearner(t, server)
	const clients = 30
	var work sync.WaitGroup
	errs := make([]error, clients)
	slowest := make([]time.Duration, clients)
	for i := range clients {
		r := connect(t, Config{Endpoints: []string{learner.Addr(), server.Addr()}})
		work.Go(func() {
			began := time.Now()
			_, errs[i] = r.Register(watchtest.Context(t), registry.Instance{ID: fmt.Sprint(i), Service: "s", Address: "10.0.0.1:80"})
			slowest[i] = time.Since(began)
		})
	}
	work.Wait()
	for i, err := range errs {
		if err != nil || slowest[i] > 10*time.Second {
			t.Errorf("client %d: %v after %v", i, err, slowest[i])
		}
	}
	r := connect(t, Config{Endpoints: []string{server.Addr(), learner.Addr()}})
	watchtest.Watch(t, r, registry.Query{Service: "s"}).Until("all of them", watchtest.Healthy(clients))
}

// A learner that stays is tried again now and then. Neither a call nor a stream after it fails because of that.
func TestCall_LearnerAmongTheEndpointsFailsNone(t *testing.T) {
	t.Parallel()
	server := testbed.StartEtcd(t)
	learner := testbed.StartEtcdLearner(t, server)
	in := &registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80", Weight: 1}
	for range 20 { // each driver has a balancer of its own, which knows of no failures
		ways := []*network{newNetwork(t, learner.Addr()), newNetwork(t, server.Addr())}
		d := driverFor(t, Config{Endpoints: []string{ways[0].addr(), ways[1].addr()}})
		t.Cleanup(func() { d.Close() })
		d.conn.Connect()
		watchtest.Eventually(t, "both are connected", func() bool { return ways[0].accepted() > 0 && ways[1].accepted() > 0 })
		l, err := d.Register(watchtest.Context(t), in, nil)
		if err != nil {
			t.Fatal(err)
		}
		s := d.Watch(registry.Query{Service: "s"})
		t.Cleanup(func() { s.Close() })
		set, err := next(watchtest.Context(t), s)
		if err == nil {
			err = l.Release(watchtest.Context(t))
		}
		for err == nil && len(set) > 0 {
			set, err = next(watchtest.Context(t), s)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
