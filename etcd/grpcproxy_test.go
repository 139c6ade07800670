package etcd

import (
	"fmt"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rollcall-go/rollcall/etcd/internal/etcdtest"
	"github.com/rollcall-go/rollcall/etcd/internal/format"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// etcd's proxy numbers the watches itself and answers requests in any order. No watch gets the events of another.
func TestWatch_ThroughGRPCProxy(t *testing.T) {
	t.Parallel()
	server := testbed.StartEtcd(t)
	operator := etcdtest.Operator(t, server)
	values := map[string]func(address string) string{
		FormatRollcall: func(a string) string { return fmt.Sprintf(`{"address":%q}`, a) },
		FormatGoZero:   func(a string) string { return a },
		FormatNaming:   func(a string) string { return fmt.Sprintf(`{"Op":0,"Addr":%q}`, a) },
	}
	for form, value := range values {
		t.Run(form, func(t *testing.T) {
			proxy := testbed.StartEtcdProxy(t, server)
			const services, rounds = 60, 3
			name := func(i int) string { return fmt.Sprintf("%s-%d%s", form, i, strings.Repeat("x", i*7%90)) }
			address := func(i, round int) string { return fmt.Sprintf("10.0.%d.%d:80", round, i) }
			prefix := format.ByName[form].Prefix()
			put := func(i, round int) {
				t.Helper()
				if _, err := operator.Put(watchtest.Context(t), prefix+name(i)+"/a", value(address(i, round))); err != nil {
					t.Fatal(err)
				}
			}
			for i := range services {
				put(i, 0)
			}
			r := connect(t, Config{Endpoints: []string{proxy.Addr()}, Format: form})
			var all []*watchtest.Watcher
			for i := range services {
				all = append(all, watchtest.Watch(t, r, registry.Query{Service: name(i)}))
			}
			for round := range rounds {
				if round > 0 {
					for i := range services {
						put(i, round)
					}
				}
				for i, w := range all {
					w.Until(address(i, round), func(p watchtest.Pair) bool {
						return p.Err == nil && len(p.Set) == 1 && p.Set[0].Address == address(i, round)
					})
				}
			}
			for i, w := range all {
				for _, p := range w.All() {
					if p.Err != nil {
						t.Errorf("watch %d failed: %v", i, p.Err)
					}
					for _, in := range p.Set {
						if !strings.HasSuffix(in.Address, fmt.Sprintf(".%d:80", i)) {
							t.Errorf("watch %d yields %v", i, p)
						}
					}
				}
			}
		})
	}
}

func TestRegister_ThroughGRPCProxy(t *testing.T) {
	t.Parallel()
	server := testbed.StartEtcd(t)
	proxy := testbed.StartEtcdProxy(t, server)
	operator := etcdtest.Operator(t, server)
	r := connect(t, Config{Endpoints: []string{proxy.Addr()}, TTL: minTTL})
	w := watchtest.Watch(t, r, registry.Query{Service: "s"})
	g := watchtest.Register(t, r, registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80"})
	w.Until("it", watchtest.Healthy(1))
	watchtest.Update(t, g, func(in *registry.Instance) { in.Version = "2" })
	w.Until("its change", func(p watchtest.Pair) bool { return p.Err == nil && len(p.Set) == 1 && p.Set[0].Version == "2" })
	if err := g.Deregister(watchtest.Context(t)); err != nil {
		t.Fatal(err)
	}
	w.Until("nothing", watchtest.Healthy(0))
	got, err := operator.Get(watchtest.Context(t), DefaultPrefix, clientv3.WithPrefix())
	if err != nil || len(got.Kvs) > 0 {
		t.Errorf("etcd has %v, %v", got.Kvs, err)
	}
}
