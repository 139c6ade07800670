package etcd_test

import (
	"slices"
	"strconv"
	"testing"

	"github.com/zeromicro/go-zero/core/discov"

	"github.com/rollcall-go/rollcall/etcd"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

func TestRegister_IsFoundByGoZero(t *testing.T) {
	server := testbed.StartEtcd(t)
	r := connect(t, server, etcd.FormatGoZero)
	g := watchtest.Register(t, r, registry.Instance{Service: "user.rpc", Address: "10.0.0.1:80", Version: "not written"})
	watchtest.Register(t, r, registry.Instance{Service: "user.rpc.v2", Address: "10.0.0.9:80"})

	subscriber, err := discov.NewSubscriber([]string{server.Addr()}, "user.rpc")
	if err != nil {
		t.Fatal(err)
	}
	defer subscriber.Close()
	values := func(want ...string) {
		t.Helper()
		watchtest.Eventually(t, "the subscriber has the addresses that are registered", func() bool {
			have := subscriber.Values()
			slices.Sort(have)
			return slices.Equal(have, want)
		})
	}
	values("10.0.0.1:80")
	other := watchtest.Register(t, r, registry.Instance{Service: "user.rpc", Address: "10.0.0.2:80"})
	values("10.0.0.1:80", "10.0.0.2:80")
	in := g.Instance()
	in.Address = "10.0.0.3:80"
	if err := g.Update(watchtest.Context(t), in); err != nil {
		t.Fatal(err)
	}
	values("10.0.0.2:80", "10.0.0.3:80")
	watchtest.Deregister(t, other)
	values("10.0.0.3:80")
}

func TestWatch_FindsRegistrationsOfGoZero(t *testing.T) {
	server := testbed.StartEtcd(t)
	r := connect(t, server, etcd.FormatGoZero)
	publish := func(address string, o ...discov.PubOption) *discov.Publisher {
		t.Helper()
		p := discov.NewPublisher([]string{server.Addr()}, "user.rpc", address, o...)
		if err := p.KeepAlive(); err != nil {
			t.Fatal(err)
		}
		return p
	}
	one := publish("10.0.0.1:80")
	defer one.Stop()
	numbered := publish("10.0.0.2:80", discov.WithId(7))
	w := watchtest.Watch(t, r, registry.Query{Service: "user.rpc"})
	set := w.Until("both", watchtest.At("10.0.0.1:80", "10.0.0.2:80")).Set
	for _, in := range set {
		if _, err := strconv.Atoi(in.ID); err != nil || in.Weight != 1 || in.Address == "10.0.0.2:80" && in.ID != "7" {
			t.Errorf("one is %+v", in)
		}
	}
	wantServices(t, r, "user.rpc")
	numbered.Stop()
	w.Until("the departure", watchtest.At("10.0.0.1:80"))
	// Both fleets are one set.
	watchtest.Register(t, r, registry.Instance{Service: "user.rpc", Address: "10.0.0.3:80"})
	w.Until("ours beside theirs", watchtest.At("10.0.0.1:80", "10.0.0.3:80"))
}
