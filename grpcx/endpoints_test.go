package grpcx_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/serve"
)

// A process with gRPC and HTTP has one registration, one drain and one exit.

func listenTCP(t *testing.T) net.Listener {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lis.Close() })
	return lis
}

// getHTTP returns the code and the body of an answer.
func getHTTP(t *testing.T, address string) (int, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(watchtest.Context(t), http.MethodGet, "http://"+address, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func TestServer_ServesGRPCAndHTTPWithOneRegistration(t *testing.T) {
	store := newStore(t)
	b := newBackend(t)
	lis := listenTCP(t)
	entered, release := make(chan struct{}), make(chan struct{})
	s := &grpcx.Server{Registrar: store, Instance: registry.Instance{Service: service}, DrainDelay: -1, StopTimeout: time.Hour}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-release
		io.WriteString(w, "done")
	})
	s.Endpoints = map[string]serve.Endpoint{"http": {Server: &http.Server{Handler: mux}, Listener: lis}}
	r := startServer(t, s, b)
	registered(t, store)
	if in := lookup(t, store)[0]; in.Address != b.address() || in.Endpoints["http"] != lis.Addr().String() {
		t.Errorf("it is registered as %+v", in)
	}
	_, stream := openStream(t, b.address())
	answer := make(chan string, 1)
	go func() {
		_, body := getHTTP(t, lis.Addr().String())
		answer <- body
	}()
	<-entered
	r.leave()
	watchtest.Eventually(t, "it to leave the registry", func() bool { return len(lookup(t, store)) == 0 })
	for _, address := range []string{b.address(), lis.Addr().String()} {
		watchtest.Eventually(t, address+" to accept no connections", func() bool {
			c, err := net.Dial("tcp", address)
			if err == nil {
				c.Close()
			}
			return err != nil
		})
	}
	close(release)
	if got := <-answer; got != "done" {
		t.Errorf("the HTTP request got %q", got)
	}
	select {
	case <-r.done:
		t.Error("Serve has returned while a stream is open")
	default:
	}
	if err := stream.CloseSend(); err != nil {
		t.Error(err)
	}
	if _, err := stream.Recv(); err != io.EOF {
		t.Errorf("the stream ended with %v", err)
	}
	if err := r.ends(t); err != nil {
		t.Error(err)
	}
}

func TestServer_LeavesIfEndpointFails(t *testing.T) {
	store := newStore(t)
	b := newBackend(t)
	lis := &breakable{Listener: listenTCP(t), broken: make(chan struct{})}
	r := startServer(t, &grpcx.Server{
		Registrar: store, Instance: registry.Instance{Service: service}, DrainDelay: -1,
		Endpoints: map[string]serve.Endpoint{"http": {Server: new(http.Server), Listener: lis}},
	}, b)
	registered(t, store)
	lis.breaks(t)
	if err := r.ends(t); err == nil || !strings.Contains(err.Error(), "rollcall: serve backend: the listener broke") {
		t.Errorf("it returned %v", err)
	}
	if set := lookup(t, store); len(set) != 0 {
		t.Errorf("the registry has %v", set)
	}
	refusesConnections(t, b.address())
}

func TestServer_NamesInvalidEndpoints(t *testing.T) {
	lis, open := listenTCP(t), listenTCP(t)
	b := newBackend(t)
	r := startServer(t, &grpcx.Server{
		Registrar: newStore(t), Instance: registry.Instance{Service: service},
		More:      []registry.Instance{{Service: "a"}, {Service: "a"}},
		Listeners: map[string]net.Listener{"both": lis, "grpc": nil},
		Endpoints: map[string]serve.Endpoint{"both": {Listener: open}, "http": {}},
	}, b)
	err := r.ends(t)
	for _, want := range []string{
		`Server.Endpoints["both"] is given, and a listener of that name too`, `Server.Listeners["grpc"] is nil`,
		`Server.Endpoints["http"].Listener is nil`,
	} {
		if !errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("it returned %v, want %s", err, want)
		}
	}
	for _, one := range []net.Listener{lis, open, b.lis} {
		refusesConnections(t, one.Addr().String())
	}
}

func TestServer_NamesServiceThatIsThereTwice(t *testing.T) {
	r := startServer(t, &grpcx.Server{
		Registrar: newStore(t), Instance: registry.Instance{Service: service}, More: []registry.Instance{{Service: "a"}, {Service: "a"}},
	}, newBackend(t))
	if err := r.ends(t); err == nil || !strings.Contains(err.Error(), `Server.More[1].Service: "a" is there twice`) {
		t.Errorf("it returned %v", err)
	}
}

func TestAsServer_FollowsReadinessOfService(t *testing.T) {
	const serving, not = healthpb.HealthCheckResponse_SERVING, healthpb.HealthCheckResponse_NOT_SERVING
	for name, given := range map[string]*health.Server{"of its own": nil, "of the caller": health.NewServer()} {
		t.Run(name, func(t *testing.T) {
			store := newStore(t)
			b := newBackend(t)
			if given != nil {
				healthpb.RegisterHealthServer(b.gs, given)
			}
			s := &serve.Service{
				Registrar: store, Instance: registry.Instance{Service: service}, DrainDelay: time.Hour, Signals: []os.Signal{},
				Endpoints: map[string]serve.Endpoint{"grpc": {Server: grpcx.AsServer(b.gs, given), Listener: b.lis}},
			}
			srv, lis := &http.Server{Handler: s}, listenTCP(t)
			done := make(chan error, 1)
			go func() { done <- s.Serve(t.Context(), srv, lis) }()
			registered(t, store)
			if in := lookup(t, store)[0]; in.Address != lis.Addr().String() || in.Endpoints["grpc"] != b.address() {
				t.Errorf("it is registered as %+v", in)
			}
			says := func(when string, want healthpb.HealthCheckResponse_ServingStatus, code int) {
				t.Helper()
				for _, name := range []string{"", service, testpb.TestService_ServiceDesc.ServiceName} {
					if got := healthOf(t, b.address(), name); got != want {
						t.Errorf("%s, the health of %q is %v", when, name, got)
					}
				}
				if got, body := getHTTP(t, lis.Addr().String()); got != code {
					t.Errorf("%s, the readiness endpoint says %d %s", when, got, body)
				}
			}
			says("ready", serving, http.StatusOK)
			s.NotReady()
			says("not ready", not, http.StatusServiceUnavailable)
			s.Ready()
			says("ready again", serving, http.StatusOK)
			ended := make(chan error, 1)
			go func() { ended <- s.Drain(watchtest.Context(t)) }()
			watchtest.Eventually(t, "it to leave", func() bool { return healthOf(t, b.address(), service) == not })
			says("leaving", not, http.StatusServiceUnavailable)
			b.gs.Stop()
			srv.Close()
			if err := errors.Join(<-ended, watchtest.Receive(t, "Serve to return", done)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAsServer_RefusesStoppedServer(t *testing.T) {
	b := newBackend(t)
	b.gs.Stop()
	s := &serve.Service{
		Registrar: unasked(t), Instance: registry.Instance{Service: service}, DrainDelay: -1, Signals: []os.Signal{},
		Endpoints: map[string]serve.Endpoint{"grpc": {Server: grpcx.AsServer(b.gs, nil), Listener: b.lis}},
	}
	err := s.Serve(t.Context(), new(http.Server), listenTCP(t))
	if !errors.Is(err, registry.ErrClosed) || !errors.Is(err, grpc.ErrServerStopped) || !strings.Contains(err.Error(), `Endpoints["grpc"].Server was stopped before Serve`) {
		t.Errorf("it returned %v", err)
	}
}
