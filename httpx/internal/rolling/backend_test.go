package rolling

import (
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/consul"
	"github.com/rollcall-go/rollcall/etcd"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

// ttl is the TTL of all entries, so that the entry of a process that was killed expires soon.
const ttl = 5 * time.Second

// openers has the backends that another process can open.
var openers = registry.Openers{"consul": consul.Open, "etcd": etcd.Open}

// backend is a registry server that can go away.
type backend struct {
	open       func(*testing.T) *registry.Registry // the caller closes it
	url        string                              // for another process; "" if no other process can reach the registry
	away, back func()                              // the registry goes away for all, and comes back

	store   *memory.Registry // of the backend memory
	clients []*memory.Registry
}

// onEachBackend runs f on each backend.
func onEachBackend(t *testing.T, f func(*testing.T, *backend)) {
	for name, start := range map[string]func(*testing.T) *backend{"memory": startMemory, "consul": startConsul, "etcd": startEtcd} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, start(t))
		})
	}
}

func startMemory(t *testing.T) *backend {
	store, err := memory.NewWith(memory.Config{TTL: ttl})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	b := &backend{store: store}
	b.open = func(*testing.T) *registry.Registry {
		c := store.Client()
		b.clients = append(b.clients, c)
		return c.Registry
	}
	b.away = func() {
		for _, c := range b.clients {
			c.Fail(registry.ErrUnavailable)
		}
	}
	b.back = func() {
		for _, c := range b.clients {
			c.Heal()
		}
	}
	return b
}

// startConsul starts a Consul behind a proxy. While the proxy refuses connections, Consul itself goes on, and all entries expire.
func startConsul(t *testing.T) *backend {
	proxy := testbed.NewProxy(t, testbed.StartConsul(t).Addr())
	b := &backend{url: "consul://" + proxy.Addr() + "?ttl=" + ttl.String(), away: proxy.Refuse, back: proxy.Heal}
	b.open = b.openURL
	return b
}

func startEtcd(t *testing.T) *backend {
	server := testbed.StartEtcd(t)
	b := &backend{url: "etcd://" + server.Addr() + "?ttl=" + ttl.String(), away: server.Kill, back: func() { server.Restart(true) }}
	b.open = b.openURL
	return b
}

func (b *backend) openURL(t *testing.T) *registry.Registry {
	t.Helper()
	r, err := openers.Open(t.Context(), b.url)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
