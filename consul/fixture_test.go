package consul

import (
	"net/http"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/consul/internal/codec"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// slack is how many times longer than promised something may take, on a machine that is busy with other tests.
const slack = 3

// open returns a client that is closed with the test, if not before.
func open(t testing.TB, c Config) *registry.Registry {
	t.Helper()
	return watchtest.NewRegistry(t, openDriver(t, c), c.Options)
}

// operatorOf returns a client of Consul itself.
func operatorOf(t testing.TB, agent *testbed.Consul) *api.Client {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true} // so that goleak finds no connection of it
	client, err := api.NewClient(&api.Config{Address: agent.Addr(), Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func isBlocking(r *http.Request) bool { return r.URL.Query().Has("index") }

func minimal() *registry.Instance {
	return &registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80", Weight: 1}
}

// registerLease registers an instance of a service that no other test uses, with a driver of its own that is closed with the test.
func registerLease(t testing.TB, c Config) (*lease, *registry.Instance) {
	t.Helper()
	d := openDriver(t, c)
	t.Cleanup(func() { d.Close() })
	in := minimal()
	in.Service = uniqueService()
	l, err := d.Register(watchtest.Context(t), in, nil)
	if err != nil {
		t.Fatal(err)
	}
	return l.(*lease), in
}

// bareLease returns a lease that has registered nothing. An entry with that owner tag belongs to it.
func bareLease(d *driver, serviceID string, owner codec.Owner) *lease {
	l := &lease{d: d, serviceID: serviceID, owner: owner, checkLock: newMutex(), entryLock: newMutex(), released: make(chan struct{})}
	l.seq.Store(owner.Seq)
	return l
}

// openDriver returns a driver that the caller closes.
func openDriver(t testing.TB, c Config) registry.Driver {
	t.Helper()
	d, err := NewDriver(c)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
