package consulscheme

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/consul"
	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

func TestMain(m *testing.M) {
	for _, e := range os.Environ() { // what a developer has set for Consul is not for these tests
		if name, _, _ := strings.Cut(e, "="); strings.HasPrefix(name, "CONSUL_") {
			os.Unsetenv(name)
		}
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil)))
	clients = newPool(10 * time.Millisecond) // so that goleak need not wait for the real time to linger
	goleak.VerifyTestMain(m)
}

func parseTarget(t *testing.T, target string) (consul.Config, registry.Query, error) {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	return parse(resolver.Target{URL: *u})
}

func TestParse_SetsEveryParameter(t *testing.T) {
	t.Setenv("CONSUL_HTTP_SSL", "true") // without TLS, insecure means nothing
	c, q, err := parseTarget(t, "consul://user:pass@[::1]:8555/greeter?tag=blue&healthy=false&wait=14s&timeout=3s&max-backoff=20ms"+
		"&near=n1&limit=3&token=hunter2&dc=dc2&allow-stale=true&insecure=true")
	if err != nil {
		t.Fatal(err)
	}
	want := consul.Config{
		Addresses: []string{"[::1]:8555"}, Username: registry.NewSecret("user"), Password: registry.NewSecret("pass"), Token: registry.NewSecret("hunter2"), Datacenter: "dc2", Near: "n1", Limit: 3, Stale: true,
		Wait: 14 * time.Second, Timeout: 3 * time.Second, TLS: consul.TLS{InsecureSkipVerify: true},
		Options: registry.Options{BackoffMax: 20 * time.Millisecond, BackoffMin: 20 * time.Millisecond},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("the settings are %+v, want %+v", c, want)
	}
	if q.Service != "greeter" || !q.AnyStatus || len(q.Tags) != 1 || q.Tags[0] != "blue" {
		t.Errorf("the query is %+v", q)
	}
	t.Setenv("CONSUL_HTTP_SSL", "")
	c, q, err = parseTarget(t, "consul://h/greeter?insecure=true&limit=1&require-consistent=1")
	if err != nil || q.AnyStatus || len(q.Tags) != 0 || c.Near != "_agent" || !c.Consistent || c.TLS.InsecureSkipVerify {
		t.Errorf("with few parameters: %+v, %+v, %v", c, q, err)
	}
}

func TestBuild_NamesInvalidPartsWithoutSecrets(t *testing.T) {
	for target, want := range map[string]string{
		"consul://h/greeter?tags=hunter2":                         `unknown URL parameter "tags" (known: allow-stale,`,
		"consul://u:hunter2@h/a/b":                                `Service: "a/b"`,
		"consul://u:hunter2@h/":                                   "Service",
		"consul://h,u:hunter2@h2/greeter":                         "before the first host",
		"consul:///greeter":                                       "host is required",
		"consul://h/greeter?healthy=perhaps":                      `"healthy": "perhaps" is not true or false`,
		"consul://h/greeter?max-backoff=-1s":                      `"max-backoff": -1s is negative`,
		"consul://h/greeter#hunter":                               "fragment",
		"consul://h:0/greeter":                                    "no port from 1 to 65535",
		"consul://h/greeter?wait=1h":                              "Wait (wait): 1h0m0s",
		"consul://h/greeter?allow-stale=1&require-consistent=1":   "exclude each other",
		"consul://h/greeter?token=hunter2&token=hunter2&limit=-1": `"token": given more than once`,
	} {
		conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err == nil {
			_, err = call(t, conn)
			conn.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s says %v, want %s", target, err, want)
		}
	}
}

func TestBuild_ReturnsRegistryError(t *testing.T) {
	for target, want := range map[string][]string{
		"consul:///greeter":                              {"host is required"},
		"consul://h/a/b?tags=x&healthy=maybe":            {`"a/b"`, `"tags"`, `"healthy"`, `"maybe"`},
		"consul://h/greeter?max-backoff=-1s&limit=some":  {`"max-backoff"`, "-1s", `"limit"`, `"some"`},
		"consul://h/greeter?wait=1h&token=a&timeout=-1s": {"Wait", "1h0m0s", "Timeout", "-1s"},
	} {
		u, err := url.Parse(target)
		if err != nil {
			t.Fatal(err)
		}
		_, err = builder{}.Build(resolver.Target{URL: *u}, nil, resolver.BuildOptions{})
		var e *registry.Error
		if !errors.As(err, &e) || !errors.Is(err, registry.ErrInvalid) {
			t.Errorf("%s: %v is not a *registry.Error that wraps ErrInvalid", target, err)
			continue
		}
		text := err.Error()
		if !strings.HasPrefix(text, "rollcall: resolve: ") || strings.Count(text, "rollcall: ") != 1 || strings.Contains(text, "\n") {
			t.Errorf("%s: %q does not have one line and one prefix", target, text)
		}
		for _, part := range want {
			if !strings.Contains(text, part) {
				t.Errorf("%s: %q does not name %s", target, text, part)
			}
		}
	}
}

// call makes one call and returns who answered.
func call(t *testing.T, cc grpc.ClientConnInterface, opts ...grpc.CallOption) (string, error) {
	var p peer.Peer
	_, err := healthpb.NewHealthClient(cc).Check(watchtest.Context(t), &healthpb.HealthCheckRequest{Service: service}, append(opts, grpc.Peer(&p))...)
	if err != nil {
		return "", err
	}
	return p.Addr.String(), nil
}

const service = "greeter"

// server is registered with the agent until the test ends.
func server(t *testing.T, agent string, in registry.Instance) (address string) {
	t.Helper()
	reg, err := consul.New(consul.Config{Address: agent})
	if err != nil {
		t.Fatal(err)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	in.Service = service
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		s := grpcx.Server{Registrar: reg, Instance: in, DrainDelay: -1, Signals: []os.Signal{}}
		done <- s.Serve(ctx, grpc.NewServer(), lis)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		reg.Close()
	})
	return lis.Addr().String()
}

func dial(t *testing.T, target string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestTarget_SelectsInstancesInConsul(t *testing.T) {
	agent := testbed.StartConsul(t)
	plain := server(t, agent.Addr(), registry.Instance{})
	blue := server(t, agent.Addr(), registry.Instance{Tags: []string{"blue"}})
	server(t, agent.Addr(), registry.Instance{Tags: []string{"sick"}, Status: registry.Critical})

	_, port, err := net.SplitHostPort(agent.Addr())
	if err != nil {
		t.Fatal(err)
	}
	for target, want := range map[string][]string{
		"consul://" + agent.Addr() + "/greeter":          {plain, blue},
		"consul://" + agent.Addr() + "/greeter?tag=blue": {blue},
		// localhost may resolve to ::1 first, on which the agent does not listen.
		"consul://localhost:" + port + "/greeter?healthy=true": {plain, blue},
	} {
		conn := dial(t, target)
		missing := map[string]bool{}
		for _, a := range want {
			missing[a] = true
		}
		watchtest.Eventually(t, target+" to reach all", func() bool {
			who, err := call(t, conn, grpc.WaitForReady(true))
			if err != nil {
				t.Fatal(err)
			}
			delete(missing, who)
			return len(missing) == 0
		})
		for range 20 {
			if who, err := call(t, conn); err != nil || !strings.Contains(fmt.Sprint(want), who) {
				t.Errorf("%s reached %s, %v", target, who, err)
			}
		}
	}
	if _, err := call(t, dial(t, "consul://"+agent.Addr()+"/unknown")); status.Code(err) != codes.Unavailable ||
		!strings.Contains(err.Error(), `service "unknown" in consul `+agent.Addr()) {
		t.Errorf("an unknown service says %v", err)
	}
}

func TestTarget_SendsCredentials(t *testing.T) {
	agent := testbed.StartConsul(t)
	proxy := testbed.NewProxy(t, agent.Addr())
	var mu sync.Mutex
	var seen http.Header
	proxy.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		seen = r.Header.Clone()
		return false
	})
	conn := dial(t, "consul://user:pass@"+proxy.Addr()+"/greeter?token=hunter2")
	conn.Connect()
	watchtest.Eventually(t, "a request", func() bool { mu.Lock(); defer mu.Unlock(); return seen != nil })
	mu.Lock()
	defer mu.Unlock()
	if got, want := seen.Get("Authorization"), "Basic "+base64.StdEncoding.EncodeToString([]byte("user:pass")); got != want {
		t.Errorf("Authorization is %q, want %q", got, want)
	}
	if got := seen.Get("X-Consul-Token"); got != "hunter2" {
		t.Errorf("the token is %q", got)
	}
}

// blocking selects reads that wait for a change of the service.
func blocking(r *http.Request) bool {
	return strings.HasPrefix(r.URL.Path, "/v1/health/service/") && r.URL.Query().Get("index") != ""
}

func TestChannels_ShareOneQuery(t *testing.T) {
	agent := testbed.StartConsul(t)
	proxy := testbed.NewProxy(t, agent.Addr())
	address := server(t, agent.Addr(), registry.Instance{})
	var conns []*grpc.ClientConn
	for range 500 {
		conn := dial(t, "consul://"+proxy.Addr()+"/greeter")
		conns = append(conns, conn)
		if who, err := call(t, conn, grpc.WaitForReady(true)); err != nil || who != address {
			t.Fatal(who, err)
		}
	}
	watchtest.Eventually(t, "one blocking query", func() bool { return proxy.InFlight(blocking) == 1 })
	for _, conn := range conns {
		conn.Close()
	}
	watchtest.Eventually(t, "no blocking query, after the last channel", func() bool { return proxy.InFlight(nil) == 0 })
	if n := proxy.Requests(); n > 20 {
		t.Errorf("500 channels made %d requests, want a few", n)
	}
}

// Many watches and channels over one Registry, as in a large process.
func TestChannels_ShareQueryWithWatches(t *testing.T) {
	agent := testbed.StartConsul(t)
	proxy := testbed.NewProxy(t, agent.Addr())
	first := server(t, agent.Addr(), registry.Instance{})
	reg, err := consul.New(consul.Config{Address: proxy.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	ctx, cancel := context.WithCancel(context.Background())
	var watchers sync.WaitGroup
	defer watchers.Wait()
	defer cancel()
	var mu sync.Mutex
	sizes := map[int]int{} // by watcher
	for i := range 500 {
		watchers.Go(func() {
			for set, err := range reg.Watch(ctx, registry.Query{Service: service}) {
				if err == nil {
					mu.Lock()
					sizes[i] = len(set)
					mu.Unlock()
				}
			}
		})
	}
	everyone := func(n int) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			for i := range 500 {
				if sizes[i] != n {
					return false
				}
			}
			return true
		}
	}
	var conns []*grpc.ClientConn
	for range 500 {
		conn, err := grpcx.NewClient("rollcall:///greeter", reg, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conns = append(conns, conn)
		if who, err := call(t, conn, grpc.WaitForReady(true)); err != nil || who != first {
			t.Fatal(who, err)
		}
	}
	watchtest.Eventually(t, "every watcher to have the first", everyone(1))
	watchtest.Eventually(t, "one blocking query", func() bool { return proxy.InFlight(blocking) == 1 })
	second := server(t, agent.Addr(), registry.Instance{})
	watchtest.Eventually(t, "every watcher to have both", everyone(2))
	for _, conn := range conns[:50] {
		watchtest.Eventually(t, "a channel to reach the second", func() bool {
			who, err := call(t, conn)
			if err != nil {
				t.Fatal(err)
			}
			return who == second
		})
	}
	watchtest.Eventually(t, "one blocking query again", func() bool { return proxy.InFlight(blocking) == 1 })
	if n := proxy.InFlight(nil); n != 1 {
		t.Errorf("%d requests are open, want 1", n)
	}
}

func TestPool_SharesClientsAndLingers(t *testing.T) {
	p := newPool(time.Hour)
	a := consul.Config{Address: "127.0.0.1:1"}
	first, releaseFirst, err := p.acquire(a)
	if err != nil {
		t.Fatal(err)
	}
	second, releaseSecond, err := p.acquire(a)
	if err != nil {
		t.Fatal(err)
	}
	other, releaseOther, err := p.acquire(consul.Config{Address: "127.0.0.1:1", Token: registry.NewSecret("t")})
	if err != nil {
		t.Fatal(err)
	}
	if first != second || first == other {
		t.Error("clients with the same settings are one, and with others another")
	}
	releaseFirst()
	releaseSecond()
	again, releaseAgain, err := p.acquire(a)
	if err != nil || again != first {
		t.Errorf("a client that lingers is not used again: %v", err)
	}
	releaseAgain()
	releaseOther()
	for key, cl := range p.open {
		p.close(key, cl)
	}
	if len(p.open) != 0 {
		t.Errorf("%d clients are left", len(p.open))
	}
	if _, err := first.Services(t.Context()); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("the client that was closed says %v", err)
	}
}

// Each setting changes the key, also a hidden setting. A target does not set the logger.
func TestKeyOf_DiffersInEverySetting(t *testing.T) {
	seen := map[string]string{}
	check := func(name string, c consul.Config) {
		key, err := keyOf(c)
		if again, _ := keyOf(c); err != nil || key != again {
			t.Errorf("%s: %q and %q, %v", name, key, again, err)
		}
		if strings.Contains(key, "hunter2") {
			t.Errorf("%s: the key shows the secret: %s", name, key)
		}
		if other, ok := seen[key]; ok {
			t.Errorf("%s and %s have the same key", name, other)
		}
		seen[key] = name
	}
	check("nothing", consul.Config{})
	check("another token", consul.Config{Token: registry.NewSecret("hunter2, another")})
	check("user and password", consul.Config{Username: registry.NewSecret("hunter2"), Password: registry.NewSecret("hunter2")})
	var full consul.Config
	var walk func(v reflect.Value, name string)
	walk = func(v reflect.Value, name string) {
		for i := range v.NumField() {
			f, name := v.Field(i), name+"."+v.Type().Field(i).Name
			before := reflect.ValueOf(f.Interface())
			switch f.Interface().(type) {
			case registry.Secret:
				f.Set(reflect.ValueOf(registry.NewSecret("hunter2")))
			case string:
				f.SetString("x")
			case int, time.Duration:
				f.SetInt(7)
			case bool:
				f.SetBool(true)
			case []string:
				f.Set(reflect.ValueOf([]string{"x"}))
			case map[string]string:
				f.Set(reflect.ValueOf(map[string]string{"x": "y"}))
			case *slog.Logger:
				continue
			default:
				walk(f, name)
				continue
			}
			check(name, full)
			f.Set(before)
		}
	}
	walk(reflect.ValueOf(&full).Elem(), "Config")
}
