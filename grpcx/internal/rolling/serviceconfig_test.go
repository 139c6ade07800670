package rolling

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/rollcall-go/rollcall/consul"
	"github.com/rollcall-go/rollcall/etcd"
	"github.com/rollcall-go/rollcall/grpcx"
	_ "github.com/rollcall-go/rollcall/grpcx/p2c"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

// outageStore is a store that can be taken away from some of its clients.
type outageStore struct {
	open       func() *registry.Registry                              // a client for which the store stays
	openFaulty func(t *testing.T, cacheDir string) *registry.Registry // a client for which it can be taken away
	away, back func()
}

func memoryStore(t *testing.T) outageStore {
	first := memory.New()
	t.Cleanup(func() { first.Close() })
	var faulty []*memory.Registry
	isAway := false
	return outageStore{
		open: func() *registry.Registry { return first.Client().Registry },
		openFaulty: func(t *testing.T, cacheDir string) *registry.Registry {
			c := first.Client()
			t.Cleanup(func() { c.Close() })
			if isAway {
				c.Fail(errors.New("away"))
			}
			faulty = append(faulty, c)
			return must(t)(registry.New(c.Driver(), registry.Options{CacheDir: cacheDir}))
		},
		away: func() {
			isAway = true
			for _, c := range faulty {
				c.Fail(errors.New("away"))
			}
		},
		back: func() {
			isAway = false
			for _, c := range faulty {
				c.Heal()
			}
		},
	}
}

func consulStore(t *testing.T) outageStore {
	agent := testbed.StartConsul(t)
	proxy := testbed.NewProxy(t, agent.Addr())
	return outageStore{
		open: func() *registry.Registry { return must(t)(consul.New(consul.Config{Address: agent.Addr()})) },
		openFaulty: func(t *testing.T, cacheDir string) *registry.Registry {
			return must(t)(consul.New(consul.Config{Address: proxy.Addr(), Options: registry.Options{CacheDir: cacheDir}}))
		},
		away: proxy.Refuse, back: proxy.Heal,
	}
}

func etcdStore(t *testing.T) outageStore {
	s := testbed.StartEtcd(t)
	open := func(cacheDir string) *registry.Registry {
		return must(t)(etcd.New(etcd.Config{Endpoints: []string{s.Addr()}, Options: registry.Options{CacheDir: cacheDir}}))
	}
	return outageStore{
		open:       func() *registry.Registry { return open("") },
		openFaulty: func(_ *testing.T, cacheDir string) *registry.Registry { return open(cacheDir) },
		away:       s.Kill, back: func() { s.Restart(true) },
	}
}

// A service config that changes, breaks, is deleted or cannot be read fails no call, also of a client that starts in an outage.
func TestServiceConfigKey_LosesNoCall(t *testing.T) {
	for name, start := range map[string]func(*testing.T) outageStore{"memory": memoryStore, "consul": consulStore, "etcd": etcdStore} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			changeConfig(t, start(t))
		})
	}
}

const configKey = "rollcall/config/" + service

// configured is a client under load whose service config is in the registry.
type configured struct {
	*load
	log lockedBuffer
}

// startConfigured begins to call the service with the service config in the registry.
func startConfigured(t *testing.T, reg *registry.Registry) *configured {
	t.Helper()
	c := new(configured)
	t.Cleanup(func() { reg.Close() })
	conn, err := grpcx.NewClient("rollcall:///"+service, reg, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"methodConfig":[{"name":[{}],"timeout":"40s"}]}`),
		grpcx.WithResolverConfig(grpcx.ResolverConfig{ServiceConfigKey: "rollcall/config/SERVICE", Logger: slog.New(slog.NewTextHandler(&c.log, nil))}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c.load = &load{client: testpb.NewTestServiceClient(conn), rate: rate / 2, open: 10}
	c.start()
	return c
}

// ends stops the load, and reports calls that have failed.
func (c *configured) ends(t *testing.T, began time.Time) {
	t.Helper()
	c.stop()
	took := time.Since(began)
	t.Logf("%d calls in %v, %.0f a second, and %d streams", c.calls.Load(), took.Round(time.Millisecond), float64(c.calls.Load())/took.Seconds(), c.streams.Load())
	for _, err := range c.failures {
		t.Error(err)
	}
}

func changeConfig(t *testing.T, store outageStore) {
	var fleet []*server
	for range 3 {
		fleet = append(fleet, start(t, store.open()))
	}
	operator := store.open()
	defer operator.Close()
	watchtest.Watch(t, operator, registry.Query{Service: service}).Until("all servers", watchtest.Healthy(3))
	put := func(config string) {
		t.Helper()
		if _, err := operator.PutValue(watchtest.Context(t), configKey, []byte(config), registry.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	// arrives waits for calls with a timeout.
	arrives := func(what string, seconds int64) {
		t.Helper()
		watchtest.Eventually(t, what, func() bool {
			for _, s := range fleet {
				if s.timeout.Load() == seconds {
					return true
				}
			}
			return false
		})
	}
	cacheDir := t.TempDir()
	began := time.Now()
	c := startConfigured(t, store.openFaulty(t, cacheDir))
	arrives("calls with the timeout of the program", 40)
	for i, policy := range []string{"rollcall_round_robin", "pick_first", "rollcall_p2c", "round_robin", "pick_first", "rollcall_round_robin"} {
		seconds := int64(10 + i)
		put(fmt.Sprintf(`{"loadBalancingConfig":[{%q:{}}],"methodConfig":[{"name":[{"service":"grpc.testing.TestService","method":"EmptyCall"}],"timeout":"%ds"}]}`,
			policy, seconds))
		arrives("calls with the timeout that comes with "+policy, seconds)
	}
	put(`{"methodConfig":`)
	watchtest.Eventually(t, "a line about the invalid config", func() bool { return c.log.has("service config invalid") })
	for _, s := range fleet {
		s.answers(t)
	}
	arrives("calls with the last good timeout", 15)
	if err := operator.DeleteValue(watchtest.Context(t), configKey, registry.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	arrives("calls with the timeout of the program again", 40)
	put(`{"methodConfig":[{"name":[{}],"timeout":"20s"}]}`)
	arrives("calls with the newest timeout", 20)

	store.away()
	for _, s := range fleet {
		s.answers(t)
		s.timeout.Store(0)
	}
	lateBegan := time.Now()
	late := startConfigured(t, store.openFaulty(t, cacheDir))
	watchtest.Eventually(t, "calls of the client that starts in the outage", func() bool { return late.calls.Load() >= 100 })
	arrives("calls with the newest timeout in the outage", 20)
	store.back()
	watchtest.Eventually(t, "the store to take another config", func() bool {
		_, err := operator.PutValue(watchtest.Context(t), configKey, []byte(`{"methodConfig":[{"name":[{}],"timeout":"25s"}]}`), registry.PutOptions{})
		return err == nil
	})
	arrives("calls with the timeout from after the outage", 25)
	late.ends(t, lateBegan)
	for _, s := range fleet {
		s.timeout.Store(0)
	}
	arrives("calls of the first client with the timeout from after the outage", 25)
	c.ends(t, began)
	for _, s := range fleet {
		s.leave()
	}
}

// lockedBuffer is a log.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) has(text string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Contains(b.text.Bytes(), []byte(text))
}
