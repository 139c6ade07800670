package consul

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/consul/internal/codec"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// awaitQuiet blocks until the agent compares itself with the catalog only every minute or two. In its first seconds an agent does so
// several times.
func awaitQuiet(t *testing.T, agent *testbed.Consul) {
	t.Helper()
	operator := operatorOf(t, agent)
	for {
		stray := &api.CatalogRegistration{Node: agent.Node(), Address: "127.0.0.1", SkipNodeUpdate: true,
			Service: &api.AgentService{ID: "stray", Service: "stray"}}
		if _, err := operator.Catalog().Register(stray, nil); err != nil {
			t.Fatal(err)
		}
		for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
			found, _, err := operator.Catalog().Service("stray", "", nil)
			if err != nil {
				t.Fatal(err)
			}
			if len(found) == 0 {
				break // the comparison has removed it
			}
			if time.Since(began) > 6*time.Second {
				return
			}
		}
	}
}

// A restored snapshot removes new entries from the catalog and brings back old content, while the agent regards the new entries as
// reported.
func TestWait_NoticesWhatARestoredSnapshotLacks(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	operator := operatorOf(t, agent)
	proxy := testbed.NewProxy(t, agent.Addr())
	const wait = 6 * time.Second
	r := open(t, Config{Address: proxy.Addr(), Wait: wait, TTL: watchtest.Timeout}) // heartbeats are no help
	service := uniqueService()
	status := map[string]registry.Status{
		"old": registry.Passing, "a": registry.Passing, "b": registry.Warning, "c": registry.Maintenance, "d": registry.Critical, "e": registry.Maintenance,
	}
	in := func(id string) registry.Instance {
		return registry.Instance{ID: id, Service: service, Address: "10.0.0.1:80", Status: status[id]}
	}
	old := watchtest.Register(t, r, in("old"))
	reader := open(t, Config{Address: agent.Addr()})
	w := watchtest.Watch(t, reader, registry.Query{Service: service, AnyStatus: true})
	w.Until("the first", watchtest.Healthy(1))
	awaitQuiet(t, agent)
	snapshot, _, err := operator.Snapshot().Save(nil)
	if err != nil {
		t.Fatal(err)
	}
	saved, err := io.ReadAll(snapshot)
	if err != nil {
		t.Fatal(err)
	}
	snapshot.Close()
	for _, id := range []string{"a", "b", "c", "d"} {
		watchtest.Register(t, r, in(id))
	}
	e := in("e")
	e.Status = registry.Passing
	watchtest.Register(t, r, e)
	if err := operator.Agent().EnableServiceMaintenance(codec.ServiceID(service, "e"), "by hand"); err != nil {
		t.Fatal(err)
	}
	watchtest.Update(t, old, func(in *registry.Instance) { in.Version = "2" })
	whole := func(p watchtest.Pair) bool {
		for id, s := range status {
			if in := p.Find(id); in == nil || in.Status != s || id == "old" && in.Version != "2" {
				return false
			}
		}
		return p.Err == nil
	}
	w.Until("all of them", whole)
	requests := len(proxy.Log())
	before := len(w.All())
	if err := operator.Snapshot().Restore(nil, bytes.NewReader(saved)); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	w.Until("the loss", func(p watchtest.Pair) bool { return !whole(p) })
	w.Until("all of them again", whole)
	took := time.Since(began)
	t.Logf("all are back after %v", took)
	if took > 2*wait {
		t.Errorf("they were back after %v, want a wait of %v", took, wait)
	}
	for _, p := range w.All()[before:] {
		for id, s := range status {
			if in := p.Find(id); in != nil && in.Status != s {
				t.Errorf("%s was seen as %v, want %v", id, in.Status, s)
			}
		}
	}
	reads := 0
	for _, q := range proxy.Log()[requests:] {
		if strings.HasPrefix(q.Path, "/v1/catalog/") {
			reads++
		}
	}
	t.Logf("the catalog was read %d times", reads)
	if most := 3 + 3*int(took/time.Second); reads > most {
		t.Errorf("the catalog was read %d times, want %d at most for %d instances", reads, most, len(status))
	}
}

// A watch that has seen all instances keeps most of them while they are registered again.
func TestWait_NoticesARestoredSnapshotAtOnce(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	operator := operatorOf(t, agent)
	service := uniqueService()
	add := func(id string) registry.Registration {
		r := open(t, Config{Address: agent.Addr(), Wait: maxWait}) // longer than this test
		return watchtest.Register(t, r, registry.Instance{ID: id, Service: service, Address: "10.0.0.1:80"})
	}
	old := add("old")
	awaitQuiet(t, agent)
	snapshot, _, err := operator.Snapshot().Save(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer snapshot.Close()
	registered := time.Now()
	for _, id := range []string{"a", "b", "c"} {
		add(id)
	}
	// A set that lost more than half is withheld for BackoffMax, which is longer than this test too.
	reader := open(t, Config{Address: agent.Addr(), Options: registry.Options{BackoffMax: 2 * watchtest.Timeout, OutageGrace: 2 * watchtest.Timeout}})
	w := watchtest.Watch(t, reader, registry.Query{Service: service})
	w.Until("all of them", watchtest.Healthy(4))
	before := len(w.All())
	watchtest.Eventually(t, "all have looked at the catalog", func() bool { return time.Since(registered) > 2*catalogFirst })
	if err := operator.Snapshot().Restore(nil, snapshot); err != nil {
		t.Fatal(err)
	}
	restored := time.Now()
	watchtest.Update(t, old, func(in *registry.Instance) { in.Version = "2" }) // so the index does not fall
	w.Until("the loss", func(p watchtest.Pair) bool { return p.Err != nil || len(p.Set) < 4 })
	w.Until("all of them again", watchtest.Healthy(4))
	t.Logf("all are back after %v", time.Since(restored))
	for _, p := range w.All()[before:] {
		if p.Err == nil && len(p.Set) < 2 {
			t.Errorf("without an error it yielded %v", p)
		}
	}
}

// All leases at an agent share their reads of the catalog.
func TestWatchCatalog_SharesOneRead(t *testing.T) {
	agent := testbed.StartConsul(t)
	proxy := testbed.NewProxy(t, agent.Addr())
	r := open(t, Config{Address: proxy.Addr(), Wait: 2 * time.Minute})
	service := uniqueService()
	for i := range 50 {
		watchtest.Register(t, r, registry.Instance{ID: fmt.Sprint(i), Service: service, Address: "10.0.0.1:80"})
	}
	reads := func() (n int) {
		for _, q := range proxy.Log() {
			if strings.HasPrefix(q.Path, "/v1/catalog/") {
				n++
			}
		}
		return n
	}
	audited := func() bool { return reads() > 0 }
	watchtest.Eventually(t, "a read of the catalog", audited)
	// The catalog is read for another instance after it was read for the others.
	watchtest.Register(t, r, registry.Instance{ID: "last", Service: uniqueService(), Address: "10.0.0.1:80"})
	last := time.Now()
	watchtest.Eventually(t, "all have looked", func() bool { return time.Since(last) > 2*catalogFirst })
	if n := reads(); n > 25 { // 2 to 13 by the load of the machine; without sharing, 51 and more
		t.Errorf("51 instances have read the catalog %d times", n)
	}
}
