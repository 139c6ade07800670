package grpcx_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	_ "google.golang.org/grpc/balancer/leastrequest"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/grpcx"
	_ "github.com/rollcall-go/rollcall/grpcx/p2c"
	"github.com/rollcall-go/rollcall/internal/clientstate"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

const (
	configPattern = "rollcall/config/SERVICE"
	serviceKey    = "rollcall/config/" + service
	ownTimeout    = 60 * time.Second
)

// ownConfig is the service config of the caller.
const ownConfig = `{"methodConfig":[{"name":[{}],"timeout":"60s"}]}`

// timeoutConfig is a service config with a timeout for all methods.
func timeoutConfig(d time.Duration) string {
	return fmt.Sprintf(`{"methodConfig":[{"name":[{}],"timeout":"%ds"}]}`, int(d.Seconds()))
}

func policyConfig(name string) string {
	return fmt.Sprintf(`{"loadBalancingConfig":[{%q:{}}]}`, name)
}

// configTrial is a network whose registry has values.
type configTrial struct {
	*network
	operator *memory.Registry   // writes the service config
	store    *memory.Registry   // the driver of client
	client   *registry.Registry // what the channels use
	logger   *slog.Logger
	lines    *lines // of logger
	counts   *counter
	timeouts chan time.Duration // of the calls that arrive; 0 is none

	registrations map[string]registry.Registration // by address
}

func inConfigTrial(t *testing.T, o registry.Options, test func(*configTrial)) {
	t.Helper()
	inANetwork(t, func(n *network) {
		o.Logger = slog.New(slog.DiscardHandler)
		operator, err := memory.NewWith(memory.Config{Options: o})
		if err != nil {
			t.Fatal(err)
		}
		defer operator.Close()
		c := &configTrial{network: n, operator: operator, store: operator.Client(), lines: new(lines), counts: &counter{got: map[string]int64{}},
			timeouts: make(chan time.Duration, 1000), registrations: map[string]registry.Registration{}}
		defer c.store.Close()
		c.client, c.logger = c.store.Registry, slog.New(slog.NewTextHandler(c.lines, nil))
		test(c)
	})
}

// failingValues is a driver whose values cannot be read.
type failingValues struct {
	registry.Driver
	err error // nil: reading them blocks
}

func (d failingValues) WatchValue(string) registry.ValueSource { return d }

func (d failingValues) Next(ctx context.Context) (*registry.Value, error) {
	if d.err == nil {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return nil, d.err
}

func (d failingValues) Close() error { return nil }

// failValues gives the channels a registry whose values cannot be read.
func (c *configTrial) failValues(err error) {
	c.Helper()
	r, err := registry.New(failingValues{c.store.Driver(), err}, registry.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		c.Fatal(err)
	}
	c.client = r
}

// servers starts and registers servers.
func (c *configTrial) servers(count int) (all []*node) {
	c.Helper()
	for i := range count {
		s := c.listen(addressIn(i))
		s.handle = func(ctx context.Context) error {
			left := time.Duration(0)
			if deadline, ok := ctx.Deadline(); ok {
				left = time.Until(deadline).Round(time.Second)
			}
			c.timeouts <- left
			return nil
		}
		g, err := c.operator.Register(c.Context(), registry.Instance{Service: service, ID: s.address, Address: s.address})
		if err != nil {
			c.Fatal(err)
		}
		c.registrations[s.address] = g
		all = append(all, s)
	}
	return all
}

// channel returns a channel to the service, with the caller's own config and ServiceConfigKey, that has the service config.
func (c *configTrial) channel(parameters string, opts ...grpc.DialOption) *grpc.ClientConn {
	c.Helper()
	conn := c.newChannel(parameters, opts...)
	conn.Connect()
	c.settle()
	return conn
}

func (c *configTrial) newChannel(parameters string, opts ...grpc.DialOption) *grpc.ClientConn {
	c.Helper()
	config := grpcx.ResolverConfig{ServiceConfigKey: configPattern, Logger: c.logger}
	conn, err := grpcx.NewClient(target+parameters, c.client, append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(c.network.dial), grpcx.WithResolverConfig(config),
		grpc.WithDefaultServiceConfig(ownConfig), grpc.WithStatsHandler(recording{c.counts}),
	}, opts...)...)
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() { conn.Close() })
	return conn
}

// recording is a handler of stats that records metrics only.
type recording struct{ *counter }

func (recording) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (recording) HandleRPC(context.Context, stats.RPCStats)                         {}
func (recording) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (recording) HandleConn(context.Context, stats.ConnStats)                       {}

// put writes the service config, and waits until the channels have it.
func (c *configTrial) put(config string) {
	c.Helper()
	if _, err := c.operator.PutValue(c.Context(), serviceKey, []byte(config), registry.PutOptions{}); err != nil {
		c.Fatal(err)
	}
	c.settle()
}

func (c *configTrial) delete() {
	c.Helper()
	if err := c.operator.DeleteValue(c.Context(), serviceKey, registry.PutOptions{}); err != nil {
		c.Fatal(err)
	}
	c.settle()
}

// settle lets more time pass than a change needs to arrive.
func (c *configTrial) settle() {
	time.Sleep(2 * time.Second)
	synctest.Wait()
}

// wantTimeout makes a call, and checks which timeout it has.
func (c *configTrial) wantTimeout(conn *grpc.ClientConn, want time.Duration) {
	c.Helper()
	if _, err := testpb.NewTestServiceClient(conn).EmptyCall(c.Context(), new(testpb.Empty)); err != nil {
		c.Errorf("a call fails: %v", err)
		return
	}
	if got := <-c.timeouts; got != want {
		c.Errorf("a call has the timeout %v, want %v", got, want)
	}
}

// spread makes calls, and returns how many servers get some.
func (c *configTrial) spread(conn *grpc.ClientConn, all []*node) (used int) {
	c.Helper()
	for _, s := range all {
		s.calls.Store(0)
	}
	if failed, err := c.call(conn, 10*len(all)); failed > 0 {
		c.Errorf("%d calls fail: %v", failed, err)
	}
	for _, s := range all {
		if s.calls.Load() > 0 {
			used++
		}
	}
	for len(c.timeouts) > 0 {
		<-c.timeouts
	}
	return used
}

func TestServiceConfigKey_TakesEffectWithoutReconnect(t *testing.T) {
	inConfigTrial(t, registry.Options{}, func(c *configTrial) {
		all := c.servers(2)
		c.put(timeoutConfig(5 * time.Second))
		conn := c.channel("")
		c.wantTimeout(conn, 5*time.Second)
		c.spread(conn, all)
		for i := 6; i < 20; i++ {
			c.put(timeoutConfig(time.Duration(i) * time.Second))
			c.wantTimeout(conn, time.Duration(i)*time.Second)
		}
		for i, s := range all {
			if n := c.dialled(s.address); n != 1 {
				t.Errorf("server %d was dialled %d times", i, n)
			}
		}
	})
}

func TestServiceConfigKey_SwitchesPolicy(t *testing.T) {
	inConfigTrial(t, registry.Options{}, func(c *configTrial) {
		all := c.servers(3)
		conn := c.channel("")
		for _, step := range []struct {
			policy string
			used   int
		}{
			{"rollcall_round_robin", 3}, {"pick_first", 1}, {"round_robin", 3}, {"least_request_experimental", 3}, {"pick_first", 1}, {"rollcall_p2c", 3},
		} {
			c.put(policyConfig(step.policy))
			if got := c.spread(conn, all); got != step.used && step.policy != "rollcall_p2c" && step.policy != "least_request_experimental" {
				t.Errorf("%s: calls go to %d servers, want %d", step.policy, got, step.used)
			}
			if got := clientstate.All()[0].Policy; got != step.policy {
				t.Errorf("the status page shows the policy %q, want %q", got, step.policy)
			}
		}
	})
}

// gRPC uses the connections of a policy until its successor is connected.
func TestServiceConfigKey_SwitchesWrappedPoliciesWhenConnected(t *testing.T) {
	inConfigTrial(t, registry.Options{}, func(c *configTrial) {
		all := c.servers(2)
		c.put(policyConfig("round_robin"))
		conn := c.channel("")
		c.spread(conn, all)
		for i, policy := range []string{"least_request_experimental", "pick_first", "round_robin"} {
			c.mu.Lock()
			nodes := c.nodes
			c.nodes, c.hangs = map[string]*node{}, true // new connections hang
			c.mu.Unlock()
			c.put(policyConfig(policy)) // and gives up connecting later than this returns
			ctx, cancel := context.WithTimeout(c.Context(), time.Second)
			if _, err := testpb.NewTestServiceClient(conn).EmptyCall(ctx, new(testpb.Empty)); err != nil {
				t.Errorf("step %d: while %s connects: %v", i, policy, err)
			}
			cancel()
			c.mu.Lock()
			c.nodes, c.hangs = nodes, false
			c.mu.Unlock()
			time.Sleep(time.Minute) // the attempts that hang end, and others succeed
			c.spread(conn, all)
		}
	})
}

func TestServiceConfigKey_KeepsLastGoodConfig(t *testing.T) {
	inConfigTrial(t, registry.Options{}, func(c *configTrial) {
		c.servers(1)
		c.put(timeoutConfig(5 * time.Second))
		conn, other := c.channel(""), c.channel("")
		for _, bad := range []string{
			"", "{", "[]", `"text"`, `{"methodConfig":[{"name":[{}],"timeout":"5"}]}`, policyConfig("unknown"), `{"loadBalancingConfig":[{"rollcall_p2c":{"decay":7}}]}`,
			`{"methodConfig":[{"name":[{}]},{"name":[{}]}]}`, `{"retryThrottling":{"maxTokens":0,"tokenRatio":1}}`,
		} {
			before, lines := c.counts.got["rollcall.resolver.invalid_configs"], c.lines.with("service config invalid, keeping last good one")
			c.put(bad)
			c.wantTimeout(conn, 5*time.Second)
			c.wantTimeout(other, 5*time.Second)
			if n := c.counts.got["rollcall.resolver.invalid_configs"] - before; n != 2 {
				t.Errorf("%s: counted %d times for two channels", bad, n)
			}
			if n := c.lines.with("service config invalid, keeping last good one") - lines; n != 1 {
				t.Errorf("%s: logged %d times for two channels", bad, n)
			}
		}
		c.put(timeoutConfig(7 * time.Second))
		c.wantTimeout(conn, 7*time.Second)
		c.wantTimeout(other, 7*time.Second)
		if n := c.lines.with("service config changed"); n != 1 {
			t.Errorf("the change is logged %d times", n)
		}
	})
}

// A first value that is missing, invalid or out of reach fails and delays no call, and the channel has the caller's config meanwhile.
func TestServiceConfigKey_NeedsNoFirstValue(t *testing.T) {
	for name, fault := range map[string]func(*configTrial){
		"missing":     func(*configTrial) {},
		"invalid":     func(c *configTrial) { c.put(`{"methodConfig":7}`) },
		"unsupported": func(c *configTrial) { c.failValues(registry.ErrUnsupported) },
		"denied":      func(c *configTrial) { c.failValues(registry.ErrDenied) },
		"unreachable": func(c *configTrial) { c.failValues(registry.ErrUnavailable) },
		"hanging":     func(c *configTrial) { c.failValues(nil) },
	} {
		t.Run(name, func(t *testing.T) {
			inConfigTrial(t, registry.Options{}, func(c *configTrial) {
				c.servers(1)
				fault(c)
				if c.client != c.store.Registry {
					defer c.client.Close()
				}
				start := time.Now()
				conn := c.newChannel("")
				c.wantTimeout(conn, ownTimeout)
				if took := time.Since(start); took != 0 {
					t.Errorf("the first call takes %v", took)
				}
				c.settle()
				c.wantTimeout(conn, ownTimeout)
			})
		})
	}
}

func TestServiceConfigKey_DeletedKeyBringsBackOwnConfig(t *testing.T) {
	inConfigTrial(t, registry.Options{}, func(c *configTrial) {
		all := c.servers(2)
		conn := c.channel("")
		c.wantTimeout(conn, ownTimeout)
		for range 3 {
			c.put(`{"loadBalancingConfig":[{"pick_first":{}}]}`)
			c.wantTimeout(conn, 0) // the value replaces the caller's config whole
			if n := c.spread(conn, all); n != 1 {
				t.Errorf("pick_first uses %d servers", n)
			}
			c.delete()
			c.wantTimeout(conn, ownTimeout)
			if n := c.spread(conn, all); n != 2 {
				t.Errorf("after the deletion, calls go to %d servers", n)
			}
		}
		if n := c.lines.with("service config deleted"); n != 3 {
			t.Errorf("3 deletions are logged %d times", n)
		}
		c.put("{")
		c.delete()
		c.put(timeoutConfig(5 * time.Second))
		c.wantTimeout(conn, 5*time.Second)
	})
}

func TestServiceConfigKey_OutageKeepsConfig(t *testing.T) {
	inConfigTrial(t, registry.Options{CacheDir: t.TempDir()}, func(c *configTrial) {
		c.servers(1)
		c.put(timeoutConfig(5 * time.Second))
		conn := c.channel("")
		c.wantTimeout(conn, 5*time.Second)
		c.store.Fail(errors.New("down"))
		time.Sleep(time.Hour) // the channel becomes idle
		c.wantTimeout(conn, 5*time.Second)
		c.settle()
		c.wantTimeout(conn, 5*time.Second)

		// A new process that starts in the outage has the last good value.
		next := c.operator.Client()
		defer next.Close()
		next.Fail(errors.New("down"))
		c.client = next.Registry
		started := c.channel("")
		c.wantTimeout(started, 5*time.Second)

		c.store.Heal()
		next.Heal()
		time.Sleep(time.Minute) // the watches are back
		c.put(timeoutConfig(7 * time.Second))
		c.settle()
		c.wantTimeout(conn, 7*time.Second)
		c.wantTimeout(started, 7*time.Second)
	})
}

// gRPC keeps the last service config while a channel is idle, so the resolver after that must bring back the channel's own.
func TestServiceConfigKey_DeletedWhileIdle(t *testing.T) {
	inConfigTrial(t, registry.Options{}, func(c *configTrial) {
		c.servers(1)
		c.put(timeoutConfig(5 * time.Second))
		conn := c.channel("")
		c.wantTimeout(conn, 5*time.Second)
		time.Sleep(time.Hour)
		c.delete()
		conn.Connect()
		c.settle()
		c.wantTimeout(conn, ownTimeout)
	})
}

func TestServiceConfigKey_TargetComesFirst(t *testing.T) {
	inConfigTrial(t, registry.Options{}, func(c *configTrial) {
		all := c.servers(2)
		h := health.NewServer()
		h.SetServingStatus("ok", healthpb.HealthCheckResponse_SERVING)
		h.SetServingStatus("bad", healthpb.HealthCheckResponse_NOT_SERVING)
		s := c.listenWith(addressIn(2), func(gs *grpc.Server) { healthpb.RegisterHealthServer(gs, h) })
		if _, err := c.operator.Register(c.Context(), registry.Instance{Service: service, ID: "with-health", Address: s.address}); err != nil {
			t.Fatal(err)
		}
		c.put(`{"loadBalancingConfig":[{"pick_first":{}}],"healthCheckConfig":{"serviceName":"bad"},"methodConfig":[{"name":[{}],"timeout":"5s"}]}`)
		conn := c.channel("?policy=round_robin&health=ok")
		if n := c.spread(conn, append(all, s)); n != 3 {
			t.Errorf("calls go to %d servers, want 3", n)
		}
		c.delete()
		if n := c.spread(conn, append(all, s)); n != 3 {
			t.Errorf("after the deletion, calls go to %d servers, want 3", n)
		}
	})
}

// Retries of idempotent methods, and of methods that the caller has named, are added to the value as to the caller's config.
func TestServiceConfigKey_Retries(t *testing.T) {
	inConfigTrial(t, registry.Options{}, func(c *configTrial) {
		s := c.servers(1)[0]
		s.handle = func(context.Context) error {
			if s.calls.Load()%2 == 1 {
				return status.Error(codes.Unavailable, "the first attempt")
			}
			return nil
		}
		const method = `{"service":"grpc.testing.TestService","method":"EmptyCall"}`
		const policy = `{"maxAttempts":2,"initialBackoff":"0.1s","maxBackoff":"1s","backoffMultiplier":2,"retryableStatusCodes":["UNAVAILABLE"]}`
		for name, trial := range map[string]struct {
			parameters, config string
			succeeds           bool
		}{
			"none":          {"", `{}`, false},
			"of the value":  {"", `{"methodConfig":[{"name":[` + method + `],"retryPolicy":` + policy + `}]}`, true},
			"of the target": {"?retry=grpc.testing.TestService/EmptyCall", timeoutConfig(5 * time.Second), true},
		} {
			c.put(trial.config)
			conn := c.channel(trial.parameters)
			s.calls.Store(0)
			if failed, err := c.call(conn, 1); (failed == 0) != trial.succeeds {
				t.Errorf("%s: a call that fails once ends with %v", name, err)
			}
		}
	})
}

func TestServiceConfigKey_NamesTheValue(t *testing.T) {
	inConfigTrial(t, registry.Options{}, func(c *configTrial) {
		c.servers(1)
		c.put(timeoutConfig(5 * time.Second))
		if _, err := c.operator.PutValue(c.Context(), "other", []byte(timeoutConfig(7*time.Second)), registry.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		for parameters, want := range map[string]time.Duration{
			"":                                5 * time.Second,
			"?config=other":                   7 * time.Second,
			"?config=rollcall/config/SERVICE": 5 * time.Second,
			"?config=off":                     ownTimeout,
			"?config=":                        ownTimeout,
		} {
			c.wantTimeout(c.channel(parameters), want)
		}
		c.wantTimeout(c.channel("", grpcx.WithResolverConfig(grpcx.ResolverConfig{})), ownTimeout) // the default is none
	})
}

func TestServiceConfigKey_RefusesWhatCannotWork(t *testing.T) {
	store := newStore(t)
	for _, trial := range []struct {
		target string
		d      registry.Discovery
		want   string
	}{
		{target + "?config=/a", store, `ServiceConfigKey (config): Key: "/a" has the part ""`},
		{target + "?config=a%20b", store, `ServiceConfigKey (config): Key: "a b" contains ' '`},
		{target + "?config=a", newScript(), `ServiceConfigKey (config): "a" cannot be read, since *grpcx_test.script has no method WatchValue`},
	} {
		_, err := grpcx.NewClient(trial.target, trial.d, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if !errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), trial.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s says %v, want %s", trial.target, err, trial.want)
		}
	}
}

// otherChannel returns a channel of grpc.NewClient, with a service config of its own and ServiceConfigKey.
func (c *configTrial) otherChannel(config string) *grpc.ClientConn {
	c.Helper()
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(c.network.dial),
		grpc.WithResolvers(grpcx.NewBuilder(c.client, grpcx.ResolverConfig{ServiceConfigKey: configPattern})), grpc.WithNoProxy(),
		grpc.WithDefaultServiceConfig(config))
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() { conn.Close() })
	conn.Connect()
	c.settle()
	return conn
}

// On a channel of grpc.NewClient, the value is the service config as it is, and the caller's comes back too.
func TestServiceConfigKey_OnOtherChannels(t *testing.T) {
	inConfigTrial(t, registry.Options{}, func(c *configTrial) {
		c.servers(1)
		conn := c.otherChannel(ownConfig)
		c.wantTimeout(conn, ownTimeout)
		c.put(timeoutConfig(5 * time.Second))
		c.wantTimeout(conn, 5*time.Second)
		c.put("{")
		c.wantTimeout(conn, 5*time.Second)
		c.delete()
		c.wantTimeout(conn, ownTimeout)
	})
}

// Each resolver of such a channel is new, and does not know what the resolver before it has given to the channel.
func TestServiceConfigKey_DeletedWhileOtherChannelIsIdle(t *testing.T) {
	inConfigTrial(t, registry.Options{}, func(c *configTrial) {
		c.servers(1)
		c.put(timeoutConfig(5 * time.Second))
		conn := c.otherChannel(ownConfig)
		c.wantTimeout(conn, 5*time.Second)
		time.Sleep(time.Hour)
		c.delete()
		conn.Connect()
		c.settle()
		c.wantTimeout(conn, ownTimeout)
	})
}

// Only a policy of this module gets drained instances, since it uses them as the last resort.
func TestServiceConfigKey_OtherChannelsKeepDrainedInstancesFromOtherPolicies(t *testing.T) {
	inConfigTrial(t, registry.Options{}, func(c *configTrial) {
		all := c.servers(1)
		drained := c.listen(addressIn(1))
		if _, err := c.operator.Register(c.Context(), registry.Instance{Service: service, ID: "drained", Address: drained.address, Weight: registry.Drained}); err != nil {
			t.Fatal(err)
		}
		conn := c.otherChannel(policyConfig("rollcall_round_robin"))
		for _, policy := range []string{"rollcall_round_robin", "round_robin", "rollcall_p2c", "round_robin"} {
			c.put(policyConfig(policy))
			c.spread(conn, append(all, drained))
			if n := drained.calls.Load(); n > 0 {
				t.Errorf("%s: the drained instance gets %d calls", policy, n)
			}
		}
	})
}

// A new policy has no connections of its own, and none may be made in a grace period.
func TestServiceConfigKey_NewPolicyWaitsForEndOfGracePeriod(t *testing.T) {
	inConfigTrial(t, registry.Options{}, func(c *configTrial) {
		s := c.servers(1)[0]
		conn := c.channel("")
		c.wantTimeout(conn, ownTimeout)
		if err := c.registrations[s.address].Deregister(c.Context()); err != nil {
			t.Fatal(err)
		}
		c.settle()
		c.put(timeoutConfig(5 * time.Second)) // the policy stays
		c.wantTimeout(conn, 5*time.Second)
		c.put(`{"loadBalancingConfig":[{"pick_first":{}}],"methodConfig":[{"name":[{}],"timeout":"7s"}]}`)
		c.wantTimeout(conn, 5*time.Second)
		if _, err := c.operator.Register(c.Context(), registry.Instance{Service: service, ID: s.address, Address: s.address}); err != nil {
			t.Fatal(err)
		}
		c.settle()
		c.wantTimeout(conn, 7*time.Second)
	})
}
