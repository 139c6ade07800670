package grpcx_test

import (
	"context"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/internal/watchtest"
)

// What the target and the caller's service config ask for both count.
func TestNewClient_MergesTheServiceConfig(t *testing.T) {
	const timeout = `"methodConfig":[{"name":[{}],"timeout":"60s"}]`
	for _, c := range []struct {
		parameters, config string
		spread             bool // and not all calls to one
	}{
		{"", `{` + timeout + `}`, true},
		{"?policy=round_robin", `{` + timeout + `}`, true},
		{"?policy=round_robin", `{"loadBalancingConfig":[{"pick_first":{}}],` + timeout + `}`, true},
		{"?policy=pick_first", `{"loadBalancingConfig":[{"round_robin":{}}],` + timeout + `}`, false},
		{"", `{"loadBalancingConfig":[{"unknown":{}},{"pick_first":{}}],` + timeout + `}`, false},
		{"", `{"loadBalancingPolicy":"pick_first",` + timeout + `}`, false},
		{"", `{"LoadBalancingPolicy":"round_robin",` + timeout + `}`, true},
	} {
		store := newStore(t)
		servers, _ := backends(t, store, 1, 1, 1)
		conn := dial(t, target+c.parameters, store, grpc.WithDefaultServiceConfig(c.config))
		if c.spread {
			ready(t, conn, servers)
		}
		most := int64(0)
		for _, n := range shares(t, conn, servers, 30, nil) {
			most = max(most, n)
		}
		if want := map[bool]int64{true: 10, false: 30}[c.spread]; most != want {
			t.Errorf("%s with %s: one server gets %d of 30 calls, want %d", c.parameters, c.config, most, want)
		}
		// The timeout counts too: the server is told the deadline of a call that has none of its own.
		other, told := newStore(t), make(chan bool, 1)
		b := newBackend(t)
		b.gs = grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, q any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
			_, ok := ctx.Deadline()
			told <- ok
			return h(ctx, q)
		}))
		testpb.RegisterTestServiceServer(b.gs, b)
		b.serve(t)
		registerAddress(t, other, b.address())
		if _, err := call(context.Background(), dial(t, target+c.parameters, other, grpc.WithDefaultServiceConfig(c.config))); err != nil || !<-told {
			t.Errorf("%s with %s: a call has no deadline, %v", c.parameters, c.config, err)
		}
	}
}

func TestNewClient_MergesTheHealthCheck(t *testing.T) {
	for parameters, config := range map[string]string{
		"?health=" + service: `{"methodConfig":[{"name":[{}],"timeout":"20s"}],"healthCheckConfig":{"serviceName":"other"}}`,
		"":                   `{"healthCheckConfig":{"serviceName":"` + service + `"}}`,
	} {
		store := newStore(t)
		var servers []*backend
		for _, s := range []healthpb.HealthCheckResponse_ServingStatus{healthpb.HealthCheckResponse_SERVING, healthpb.HealthCheckResponse_NOT_SERVING} {
			b, h := newBackend(t), health.NewServer()
			h.SetServingStatus(service, s)
			healthpb.RegisterHealthServer(b.gs, h)
			servers = append(servers, b.serve(t))
			registerAddress(t, store, b.address())
		}
		conn := dial(t, target+parameters, store, grpc.WithDefaultServiceConfig(config))
		answers(t, conn, servers[0].address())
		watchtest.Eventually(t, "a connection to the other", func() bool { return servers[1].lis.accepted.Load() == 1 })
		if got := shares(t, conn, servers, 20, nil); got[0] != 20 {
			t.Errorf("%q with %s: of 20 calls they get %v", parameters, config, got)
		}
	}
}

// NewClient accepts every service config that gRPC accepts, and returns gRPC's error for all others.
func TestNewClient_AcceptsEveryServiceConfigOfGRPC(t *testing.T) {
	for _, config := range []string{
		`null`, `{}`, ``, `{`, `[]`, `{"methodConfig":null,"loadBalancingConfig":null,"loadBalancingPolicy":null}`, `{"methodConfig":[null]}`,
		`{"methodConfig":[{"name":null}]}`, `{"methodConfig":[{"name":[null]}]}`, `{"methodConfig":[{"name":[{"method":"Read"}]}]}`,
		`{"methodConfig":[{"name":[{"service":"grpcxtest.Effects","method":"Read"}],"timeout":"1s"}]}`, `{"retryThrottling":null}`,
		`{"healthCheckConfig":null}`, `{"loadBalancingConfig":[{}]}`, `{"loadBalancingConfig":[{"round_robin":null}]}`, `{"loadBalancingConfig":[{"unknown":{}}]}`,
	} {
		plain, want := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultServiceConfig(config))
		if want == nil {
			plain.Close()
		}
		conn, err := grpcx.NewClient(target, newStore(t), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultServiceConfig(config))
		if err == nil {
			conn.Close()
		}
		if (err == nil) != (want == nil) {
			t.Errorf("%s: %v, and gRPC says %v", config, err, want)
		}
	}
}
