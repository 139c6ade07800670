package consul

import (
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

func statusIs(s registry.Status) func(watchtest.Pair) bool {
	return func(p watchtest.Pair) bool { in := p.Find("a"); return p.Err == nil && in != nil && in.Status == s }
}

func TestChecks_OfAnAgent(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	operator := operatorOf(t, agent)

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv, state := grpc.NewServer(), health.NewServer()
	grpc_health_v1.RegisterHealthServer(srv, state)
	go srv.Serve(listener)
	t.Cleanup(srv.Stop)
	var status, failures atomic.Int64
	status.Store(http.StatusOK)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		code := int(status.Load())
		if r.URL.Path != "/health" {
			code = http.StatusNotFound
		}
		if code >= http.StatusInternalServerError {
			failures.Add(1)
		}
		w.WriteHeader(code)
	}))
	t.Cleanup(web.Close)

	proxy := testbed.NewProxy(t, agent.Addr())
	r := open(t, Config{Address: proxy.Addr(), Checks: Checks{
		Kinds: []string{CheckGRPC, CheckHTTP, CheckTCP}, Interval: time.Second, Timeout: time.Second, FailuresBeforeCritical: 2,
		HTTPEndpoint: "web", HTTPPath: "/health",
	}, Options: registry.Options{KeepOnClose: true}})
	w := watchtest.Watch(t, r, registry.Query{Service: "s", AnyStatus: true})
	g := watchtest.Register(t, r, registry.Instance{ID: "a", Service: "s", Address: listener.Addr().String(),
		Endpoints: map[string]string{"web": strings.TrimPrefix(web.URL, "http://")}})
	w.Until("the instance", statusIs(registry.Passing))
	if p := w.All(); p[len(p)-1].Find("a") == nil {
		t.Fatal(p)
	}
	for _, p := range w.All() {
		if in := p.Find("a"); in != nil && in.Status != registry.Passing {
			t.Errorf("an instance that was registered as ready was seen as %v", in.Status)
		}
	}
	checks, err := operator.Agent().Checks()
	if err != nil || len(checks) != 4 {
		t.Fatalf("%d checks, want three and the check of the status: %v", len(checks), err)
	}

	state.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	w.Until("what gRPC says", statusIs(registry.Critical))
	state.SetServingStatus("", grpc_health_v1.HealthCheckResponse_SERVING)
	w.Until("what gRPC says now", statusIs(registry.Passing))

	status.Store(http.StatusTooManyRequests)
	w.Until("what HTTP says", statusIs(registry.Warning))
	status.Store(http.StatusInternalServerError)
	w.Until("what HTTP says next", statusIs(registry.Critical))
	if n := failures.Load(); n < 2 {
		t.Errorf("critical after %d failures, want 2", n)
	}
	status.Store(http.StatusOK)
	w.Until("what HTTP says now", statusIs(registry.Passing))

	for _, s := range []registry.Status{registry.Warning, registry.Critical, registry.Maintenance, registry.Passing} {
		watchtest.Update(t, g, func(in *registry.Instance) { in.Status = s })
		w.Until("the update to "+s.String(), statusIs(s))
	}

	srv.Stop()
	w.Until("that nothing listens", statusIs(registry.Critical))
	r.Close()
	for _, q := range proxy.Log() {
		if strings.HasPrefix(q.Path, "/v1/agent/check/update/") && strings.Contains(q.Path, "rollcall-") {
			t.Errorf("the client wrote a check that the agent runs: %s", q.Path)
		}
	}

	// The next process has heartbeats only: no check of the first process may keep it critical.
	next := open(t, Config{Address: agent.Addr()})
	watchtest.Register(t, next, g.Instance())
	if checks, err = operator.Agent().Checks(); err != nil || len(checks) != 1 {
		t.Errorf("%d checks, want the check of the status alone: %v", len(checks), err)
	}
	v := watchtest.Watch(t, next, registry.Query{Service: "s"})
	v.Until("the instance", statusIs(registry.Passing))
}

// With Checks.TLS the agent checks over TLS. It accepts a certificate that it cannot verify only with InsecureSkipVerify.
func TestChecks_OverTLS(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	newAuthority(t, dir, "ca").issue("server.test", cert, key)
	secure, err := credentials.NewServerTLSFromFile(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv, state := grpc.NewServer(grpc.Creds(secure)), health.NewServer()
	grpc_health_v1.RegisterHealthServer(srv, state)
	go srv.Serve(listener)
	t.Cleanup(srv.Stop)
	status := atomic.Int64{}
	status.Store(http.StatusOK)
	web := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(int(status.Load())) }))
	web.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(web.Close)

	in := registry.Instance{ID: "a", Service: "s", Address: listener.Addr().String(), Endpoints: map[string]string{"web": strings.TrimPrefix(web.URL, "https://")}}
	conf := Config{Address: agent.Addr(), Checks: Checks{
		Kinds: []string{CheckGRPC, CheckHTTP}, Interval: time.Second, TLS: true, InsecureSkipVerify: true, GRPCService: "greeter", HTTPEndpoint: "web",
	}}
	w := watchtest.Watch(t, open(t, conf), registry.Query{Service: "s", AnyStatus: true})
	watchtest.Register(t, open(t, conf), in)
	w.Until("that the server knows no such service", statusIs(registry.Critical))
	state.SetServingStatus("greeter", grpc_health_v1.HealthCheckResponse_SERVING)
	w.Until("what gRPC says", statusIs(registry.Passing))
	status.Store(http.StatusInternalServerError)
	w.Until("what HTTP says", statusIs(registry.Critical))
	status.Store(http.StatusOK)
	w.Until("what HTTP says now", statusIs(registry.Passing))

	conf.Checks.InsecureSkipVerify = false
	in.Service = "strict"
	v := watchtest.Watch(t, open(t, conf), registry.Query{Service: "strict", AnyStatus: true})
	watchtest.Register(t, open(t, conf), in)
	v.Until("that the agent does not trust the certificate", statusIs(registry.Critical))
}

func TestTTL_IsZeroWithoutTheTTLCheck(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	beats := func(service string, kinds ...string) *testbed.Proxy {
		proxy := testbed.NewProxy(t, agent.Addr())
		r := open(t, Config{Address: proxy.Addr(), TTL: minTTL, Checks: Checks{Kinds: kinds}})
		watchtest.Register(t, r, registry.Instance{ID: "a", Service: service, Address: agent.Addr()})
		return proxy
	}
	count := func(p *testbed.Proxy) (n int) {
		for _, q := range p.Log() {
			if strings.HasPrefix(q.Path, "/v1/agent/check/update/") {
				n++
			}
		}
		return n
	}
	without, with := beats("without", CheckTCP), beats("with", CheckTCP, CheckTTL)
	watchtest.Eventually(t, "heartbeats", func() bool { return count(with) >= 2 })
	if n := count(without); n != 1 {
		t.Errorf("%d heartbeats of an instance that the agent checks, want one with its registration", n)
	}
}

func TestRegister_RefusesACheckOfAMissingEndpoint(t *testing.T) {
	s := &settings{Config: Config{Checks: Checks{Kinds: []string{CheckHTTP}, HTTPEndpoint: "web"}}.withDefaults()}
	if _, err := s.agentChecks(minimal(), "s:a"); !errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), `"web"`) {
		t.Error(err)
	}
}

func TestRegister_DelaysTheReapingOfACriticalInstance(t *testing.T) {
	for name, c := range map[string]struct {
		config Config
		status registry.Status
		want   string
	}{
		"passing":                       {Config{}, registry.Passing, "1m0s"},
		"critical":                      {Config{}, registry.Critical, "1h0m0s"},
		"critical, with more":           {Config{DeregisterAfter: 2 * time.Hour}, registry.Critical, "2h0m0s"},
		"critical, and no heartbeat":    {Config{Checks: Checks{Kinds: []string{CheckTCP}}}, registry.Critical, ""},
		"critical, heartbeats and more": {Config{Checks: Checks{Kinds: []string{CheckTCP, CheckTTL}}}, registry.Critical, "1h0m0s"},
	} {
		s := &settings{Config: c.config.withDefaults()}
		in := minimal()
		in.Status = c.status
		if got := s.statusCheck(in, "s:a").DeregisterCriticalServiceAfter; got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestIsAgentCheck_KnowsItsOwnChecks(t *testing.T) {
	for id, want := range map[string]bool{
		agentCheckID(CheckGRPC, "s:a"): true, agentCheckID(CheckTCP, "s:a"): true,
		agentCheckID(CheckGRPC, "s:b"): false, checkID("s:a"): false, "rollcall-ttl:s:a": false, "rollcall-:s:a": false, "other": false,
	} {
		if got := isAgentCheck(id, "s:a"); got != want {
			t.Errorf("%q: %v", id, got)
		}
	}
}

func TestRegister_SendsTheChecksOfTheConfig(t *testing.T) {
	s := &settings{Config: Config{Checks: Checks{Kinds: []string{CheckGRPC, CheckHTTP, CheckTCP, CheckTTL}, Interval: 30 * time.Second, SuccessBeforePassing: 3,
		TLS: true, InsecureSkipVerify: true, GRPCService: "g", HTTPEndpoint: "web"}}.withDefaults()}
	in := minimal()
	in.Endpoints = map[string]string{"web": "[::1]:80"}
	checks, err := s.agentChecks(in, "s:a")
	if err != nil || len(checks) != 3 {
		t.Fatal(checks, err)
	}
	for i, want := range []string{in.Address + "/g", "https://[::1]:80/", in.Address} {
		c := checks[i]
		if got := c.GRPC + c.HTTP + c.TCP; got != want || c.Interval != "30s" || c.Timeout != "10s" || c.SuccessBeforePassing != 3 ||
			c.DeregisterCriticalServiceAfter != "" || c.Status != "passing" || c.TLSSkipVerify != (i < 2) || c.GRPCUseTLS != (i == 0) {
			t.Errorf("%+v, want %q", c, want)
		}
	}
	s.Checks = Checks{Kinds: []string{CheckTCP}} // without heartbeats, only this check notices that the process is dead
	if checks, err := s.agentChecks(in, "s:a"); err != nil || len(checks) != 1 || checks[0].DeregisterCriticalServiceAfter != "1m0s" {
		t.Errorf("without ttl the checks are %+v, %v", checks, err)
	}
}

func TestWarningWeight_IsTheWeightWhileAnInstanceWarns(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	r := open(t, Config{Address: agent.Addr(), WarningWeight: 25})
	w := watchtest.Watch(t, r, registry.Query{Service: "s", AnyStatus: true})
	g := watchtest.Register(t, r, registry.Instance{ID: "a", Service: "s", Address: "h:1", Weight: 40})
	weighs := func(n int, s registry.Status) func(watchtest.Pair) bool {
		return func(p watchtest.Pair) bool { in := p.Find("a"); return in != nil && in.Weight == n && in.Status == s }
	}
	w.Until("its weight", weighs(40, registry.Passing))
	watchtest.Update(t, g, func(in *registry.Instance) { in.Status = registry.Warning })
	w.Until("a quarter of it", weighs(10, registry.Warning))
	watchtest.Update(t, g, func(in *registry.Instance) { in.Status = registry.Passing })
	w.Until("all of it", weighs(40, registry.Passing))
}

func TestChecks_ByURL(t *testing.T) {
	for text, want := range map[string]Checks{
		"consul://a:1":            {},
		"consul://a:1?check=grpc": {Kinds: []string{CheckGRPC}},
		"consul://a:1?check=http,ttl&check-http-path=/health&check-interval=5s&check-timeout=1s&check-http-endpoint=web&check-failures=3": {
			Kinds: []string{CheckHTTP, CheckTTL}, HTTPPath: "/health", HTTPEndpoint: "web", Interval: 5 * time.Second, Timeout: time.Second, FailuresBeforeCritical: 3},
	} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		c, err := parseURL(u)
		if err = errors.Join(err, c.check()); err != nil || !reflect.DeepEqual(c.Checks, want) {
			t.Errorf("%s: %+v, %v", text, c.Checks, err)
		}
	}
	for text, part := range map[string]string{
		"check=udp":                            `"udp"`,
		"check=tcp,tcp":                        "twice",
		"check=tcp,":                           `""`,
		"check-interval=5s":                    "check-interval",
		"check=tcp&check-interval=5ms":         "5ms",
		"check=tcp&check-timeout=-1s":          "-1s",
		"check=tcp&check-failures=-2":          "-2",
		"check=tcp&check-successes=-3":         "-3",
		"check=tcp&check-http-path=/x":         "check-http-path",
		"check=tcp&check-tls=true":             "check-tls",
		"check=grpc&check-tcp-endpoint=x":      "check-tcp-endpoint",
		"check=http&check-http-path=x":         `"x"`,
		"check=grpc&deregister-after=59s":      "59s",
		"check=grpc&check-interval=notaperiod": "notaperiod",
		"warning-weight=101":                   "101",
	} {
		u, err := url.Parse("consul://a:1?" + text)
		if err != nil {
			t.Fatal(err)
		}
		c, err := parseURL(u)
		err = errors.Join(err, c.check())
		if !errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
