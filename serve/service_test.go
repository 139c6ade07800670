package serve_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/serve"
)

// registrar adapts a function to a Registrar.
type registrar func(ctx context.Context, in registry.Instance) (registry.Registration, error)

func (f registrar) Register(ctx context.Context, in registry.Instance) (registry.Registration, error) {
	return f(ctx, in)
}

// unasked returns a Registrar that must not be called.
func unasked(t *testing.T) registrar {
	return func(context.Context, registry.Instance) (registry.Registration, error) {
		t.Error("it registers")
		return nil, registry.ErrInvalid
	}
}

func TestServe_RegistersServesAndDeregisters(t *testing.T) {
	store := newStore(t)
	r, _ := startHTTP(t, &serve.Service{Registrar: store, DrainDelay: 20 * time.Millisecond}, hello)
	registered(t, store)
	in := lookup(t, store)[0]
	if in.Address != r.address || in.Status != registry.Passing {
		t.Errorf("it is registered as %+v, and listens on %s", in, r.address)
	}
	if code, body := get(t, newClient(t), "http://"+in.Address); code != http.StatusOK || body != "hello" {
		t.Errorf("it answers %d %s", code, body)
	}
	r.leave()
	if err := r.ends(t); err != nil {
		t.Error(err)
	}
	if set := lookup(t, store); len(set) != 0 || !refusesConnections(r.address) {
		t.Errorf("after the end the registry has %v", set)
	}
}

func TestServe_ServesWhileRegistryIsAway(t *testing.T) {
	store := newStore(t)
	other := store.Client() // sees what store has while store is down
	t.Cleanup(func() { other.Close() })
	store.Fail(registry.ErrUnavailable)
	r, _ := startHTTP(t, &serve.Service{Registrar: store, DrainDelay: -1}, hello)
	if code, _ := get(t, newClient(t), "http://"+r.address); code != http.StatusOK {
		t.Errorf("it answers %d", code)
	}
	if set := lookup(t, other); len(set) != 0 {
		t.Fatalf("the registry has %v in an outage: the test proves nothing", set)
	}
	store.Heal()
	registered(t, other)
	r.leave()
	if err := r.ends(t); err != nil || len(lookup(t, other)) != 0 {
		t.Errorf("it returned %v and left %v", err, lookup(t, other))
	}
}

func TestServe_ServesAndStopsWithoutPermissionToRegister(t *testing.T) {
	store := newStore(t)
	asked := make(chan struct{}, 1)
	denied := registrar(func(context.Context, registry.Instance) (registry.Registration, error) {
		select {
		case asked <- struct{}{}:
		default:
		}
		return nil, registry.ErrDenied
	})
	s := &serve.Service{Registrar: denied, DrainDelay: -1}
	r, _ := startHTTP(t, s, hello)
	<-asked
	if code, _ := get(t, newClient(t), "http://"+r.address); code != http.StatusOK || len(s.Registrations()) != 0 {
		t.Errorf("it answers %d and has %d registrations", code, len(s.Registrations()))
	}
	r.leave()
	if err := r.ends(t); err != nil || len(lookup(t, store)) != 0 {
		t.Errorf("it returned %v", err)
	}
}

func TestServe_EndsIfRegistrarCanNeverWork(t *testing.T) {
	refuses := registrar(func(context.Context, registry.Instance) (registry.Registration, error) {
		return nil, fmt.Errorf("%w: Zone: unknown", registry.ErrInvalid)
	})
	nothing := registrar(func(context.Context, registry.Instance) (registry.Registration, error) { return nil, nil })
	for want, with := range map[string]registrar{
		"rollcall: serve backend: invalid: Zone: unknown":                                     refuses,
		"rollcall: serve backend: invalid: Service.Registrar has returned neither a registra": nothing,
	} {
		r, _ := startHTTP(t, &serve.Service{Registrar: with, DrainDelay: -1}, hello)
		if err := r.ends(t); !errors.Is(err, registry.ErrInvalid) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("it returned %v, want %s", err, want)
		}
		if !refusesConnections(r.address) {
			t.Error("it accepts connections")
		}
	}
}

func TestServe_ServesNothingIfContextHasEnded(t *testing.T) {
	lis, admin := listen(t), listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	srv, other := &http.Server{Handler: hello}, &http.Server{Handler: hello}
	s := serve.Service{
		Registrar: unasked(t), Instance: registry.Instance{Service: service}, DrainDelay: time.Hour,
		Endpoints: map[string]serve.Endpoint{"admin": {other, admin}},
	}
	if err := s.Serve(ctx, srv, lis); err != nil {
		t.Errorf("it returned %v", err)
	}
	for _, l := range []net.Listener{lis, admin} {
		if !refusesConnections(l.Addr().String()) {
			t.Errorf("%v accepts connections", l.Addr())
		}
	}
	for _, one := range []*http.Server{srv, other} {
		if err := one.Serve(listen(t)); err != http.ErrServerClosed {
			t.Errorf("afterwards a server says %v", err)
		}
	}
	if !isClosed(s.Leaving()) {
		t.Error("Leaving is open")
	}
	if err := s.Drain(t.Context()); err != nil {
		t.Errorf("Drain says %v", err)
	}
}

func TestServe_RefusesStoppedServer(t *testing.T) {
	for name, c := range map[string]struct {
		which string
		want  string
	}{
		"srv":      {"srv", "rollcall: serve backend: closed: srv was stopped before Serve"},
		"endpoint": {"admin", `rollcall: serve backend: closed: Endpoints["admin"].Server was stopped before Serve`},
	} {
		t.Run(name, func(t *testing.T) {
			srv, admin := new(http.Server), new(http.Server)
			stopped := map[string]*http.Server{"srv": srv, "admin": admin}[c.which]
			if err := stopped.Close(); err != nil {
				t.Fatal(err)
			}
			store := newStore(t)
			r := start(t, &serve.Service{
				Registrar: store, DrainDelay: -1, Endpoints: map[string]serve.Endpoint{"admin": {admin, listen(t)}},
			}, srv, listen(t))
			if err := r.ends(t); !errors.Is(err, registry.ErrClosed) || !errors.Is(err, http.ErrServerClosed) || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("it returned %v", err)
			}
			if !refusesConnections(r.address) || len(lookup(t, store)) != 0 {
				t.Errorf("it listens, or the registry has %v", lookup(t, store))
			}
		})
	}
}

func TestServe_NamesEachInvalidField(t *testing.T) {
	lis, admin := listen(t), listen(t)
	s := &serve.Service{
		Instance: registry.Instance{Service: "a/b", Address: "10.0.0.1"}, Services: []registry.Instance{{}, {Service: "x"}, {Service: "x"}},
		Endpoints: map[string]serve.Endpoint{"admin": {Listener: admin}},
	}
	refuses := func(srv serve.Server, lis net.Listener, wants ...string) {
		t.Helper()
		leaving := s.Leaving()
		err := s.Serve(t.Context(), srv, lis)
		var e *registry.Error
		if !errors.As(err, &e) || e.Op != "serve" || !errors.Is(err, registry.ErrInvalid) || strings.Contains(err.Error(), "\n") {
			t.Errorf("it returned %v", err)
		}
		for _, want := range wants {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("it returned %v, want %s", err, want)
			}
		}
		if !isClosed(leaving) {
			t.Error("Leaving is open")
		}
	}
	s.DeregisterTimeout = -1
	s.Endpoints["x"] = serve.Endpoint{}
	refuses(nil, nil, "srv is required", "lis is required", "Service.Registrar is required", "Service.DeregisterTimeout: -1ns is negative",
		`Service.Endpoints["x"].Listener is nil`)
	if !refusesConnections(admin.Addr().String()) {
		t.Error("the listener of the endpoint is open")
	}
	delete(s.Endpoints, "x")
	s.DeregisterTimeout, s.Registrar = 0, unasked(t)
	srv := new(http.Server)
	refuses(srv, lis, `Service.Instance.Service: "a/b" contains '/'`, `Service.Instance.Address: "10.0.0.1" is not host:port`,
		"Service.Services[0].Service is required", `Service.Services[2].Service: "x" is there twice`)
	if !refusesConnections(lis.Addr().String()) {
		t.Error("the listener is open")
	}
	if err := srv.Serve(listen(t)); err != http.ErrServerClosed {
		t.Errorf("the server says %v", err)
	}
	s.Instance, s.Services = registry.Instance{Service: service, Endpoints: map[string]string{"admin": "10.0.0.1:1"}}, nil
	refuses(new(http.Server), listen(t), `Service.Instance.Endpoints["admin"] is given, and a listener of that name too`)
}

func TestServe_ServesSeveralServersWithOneRegistration(t *testing.T) {
	store := newStore(t)
	srv, admin := &http.Server{Handler: hello}, &http.Server{Handler: http.NotFoundHandler()}
	same, other := listen(t), listen(t)
	s := &serve.Service{
		Registrar: store, Instance: registry.Instance{Service: service}, Services: []registry.Instance{{Service: "second"}}, DrainDelay: -1,
		Endpoints: map[string]serve.Endpoint{"same": {Listener: same}, "admin": {admin, other}},
	}
	r := start(t, s, srv, listen(t))
	watchtest.Eventually(t, "both services to be registered", func() bool { return len(s.Registrations()) == 2 })
	for _, g := range s.Registrations() {
		in := g.Instance()
		if in.Address != r.address || in.Endpoints["same"] != same.Addr().String() || in.Endpoints["admin"] != other.Addr().String() {
			t.Errorf("%s is registered as %+v", in.Service, in)
		}
	}
	for address, want := range map[string]int{r.address: 200, same.Addr().String(): 200, other.Addr().String(): 404} {
		if code, _ := get(t, newClient(t), "http://"+address); code != want {
			t.Errorf("%s answers %d, want %d", address, code, want)
		}
	}
	r.leave()
	if err := r.ends(t); err != nil {
		t.Error(err)
	}
	if len(s.Registrations()) != 0 || len(lookup(t, store)) != 0 {
		t.Errorf("after the end the registry has %v", lookup(t, store))
	}
	for _, address := range []string{r.address, same.Addr().String(), other.Addr().String()} {
		if !refusesConnections(address) {
			t.Errorf("%s accepts connections", address)
		}
	}
}

// breakable is a listener whose Accept fails when the test says so.
type breakable struct {
	net.Listener
	broken chan struct{}
	panics bool
}

func newBreakable(t *testing.T) *breakable {
	return &breakable{Listener: listen(t), broken: make(chan struct{})}
}

func (l *breakable) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if !isClosed(l.broken) {
		return c, err
	}
	if err == nil {
		c.Close()
	}
	if l.panics {
		panic("the listener broke")
	}
	return nil, errors.New("the listener broke")
}

// breaks makes the Accept in progress the last one.
func (l *breakable) breaks(t *testing.T) {
	t.Helper()
	close(l.broken)
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestServe_LeavesIfAnyListenerFails(t *testing.T) {
	for _, which := range []string{"lis", "endpoint"} {
		t.Run(which, func(t *testing.T) {
			store := newStore(t)
			bad, good := newBreakable(t), listen(t)
			lis, endpoint := net.Listener(bad), good
			if which == "endpoint" {
				lis, endpoint = good, bad
			}
			entered, release := make(chan struct{}), make(chan struct{})
			slow := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				close(entered)
				<-release
				io.WriteString(w, "done")
			})
			srv, other := &http.Server{Handler: slow}, &http.Server{Handler: slow}
			r := start(t, &serve.Service{
				Registrar: store, DrainDelay: -1, StopTimeout: time.Hour, Endpoints: map[string]serve.Endpoint{"other": {other, endpoint}},
			}, srv, lis)
			registered(t, store)
			answer := make(chan string, 1)
			client := newClient(t)
			go func() {
				_, body := get(t, client, "http://"+good.Addr().String())
				answer <- body
			}()
			<-entered
			bad.breaks(t)
			deregistered(t, store)
			r.serves(t) // it waits for the request to the other server
			close(release)
			if got := <-answer; got != "done" {
				t.Errorf("the request in progress got %q", got)
			}
			if err := r.ends(t); err == nil || !strings.Contains(err.Error(), "rollcall: serve backend: the listener broke") {
				t.Errorf("it returned %v", err)
			}
			if !refusesConnections(good.Addr().String()) {
				t.Error("the other listener is open")
			}
		})
	}
}

// fake is a Server whose methods a test replaces.
type fake struct {
	serve.Server
	serve    func(net.Listener) error
	shutdown func(context.Context) error
	close    func() error
}

func (f fake) Serve(l net.Listener) error {
	if f.serve != nil {
		return f.serve(l)
	}
	return f.Server.Serve(l)
}

func (f fake) Shutdown(ctx context.Context) error {
	if f.shutdown != nil {
		return f.shutdown(ctx)
	}
	return f.Server.Shutdown(ctx)
}

func (f fake) Close() error {
	if f.close != nil {
		return f.close()
	}
	return f.Server.Close()
}

func TestServe_PanicsAfterItHasLeft(t *testing.T) {
	for name, panicking := range map[string]func(*fake){
		"Serve": func(f *fake) {
			f.serve = func(l net.Listener) error {
				c, err := l.Accept() // after it was registered
				if err == nil {
					c.Close()
				}
				panic("the server's panic")
			}
		},
		"Shutdown": func(f *fake) { f.shutdown = func(context.Context) error { panic("the server's panic") } },
	} {
		t.Run(name, func(t *testing.T) {
			store := newStore(t)
			lis := listen(t)
			base := &http.Server{Handler: hello}
			srv := fake{Server: base}
			panicking(&srv)
			admin, adminListener := &http.Server{Handler: hello}, listen(t)
			s := &serve.Service{
				Registrar: store, Instance: registry.Instance{Service: service}, DrainDelay: -1, Signals: []os.Signal{},
				Endpoints: map[string]serve.Endpoint{"admin": {admin, adminListener}},
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan any, 1)
			go func() {
				defer func() { done <- recover() }()
				done <- s.Serve(ctx, srv, lis)
			}()
			registered(t, store)
			if c, err := net.Dial("tcp", lis.Addr().String()); err == nil {
				c.Close()
			}
			if name == "Shutdown" {
				cancel()
			}
			got := fmt.Sprint(watchtest.Receive(t, "Serve to end", done))
			if !strings.Contains(got, "the server's panic") || !strings.Contains(got, "goroutine") {
				t.Errorf("Serve ended with %v", got)
			}
			if set := lookup(t, store); len(set) != 0 {
				t.Errorf("the registry has %v", set)
			}
			for _, l := range []net.Listener{lis, adminListener} {
				if !refusesConnections(l.Addr().String()) {
					t.Errorf("%v accepts connections", l.Addr())
				}
			}
			base.Close()
		})
	}
}

func TestServe_DeregistersBeforePanicOfListener(t *testing.T) {
	store := newStore(t)
	lis := newBreakable(t)
	lis.panics = true
	done := make(chan any, 1)
	go func() {
		defer func() { done <- recover() }()
		s := serve.Service{Registrar: store, Instance: registry.Instance{Service: service}, DrainDelay: -1, Signals: []os.Signal{}}
		done <- s.Serve(context.Background(), &http.Server{Handler: hello}, lis)
	}()
	registered(t, store)
	lis.breaks(t)
	if got := fmt.Sprint(watchtest.Receive(t, "Serve to end", done)); !strings.Contains(got, "the listener broke") {
		t.Errorf("Serve ended with %v", got)
	}
	if set := lookup(t, store); len(set) != 0 {
		t.Errorf("the registry has %v", set)
	}
}

func TestServe_GoesOnAfterPanicOfHandler(t *testing.T) {
	store := newStore(t)
	srv := &http.Server{
		Handler:  http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { panic("the handler's panic") }),
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	r := start(t, &serve.Service{Registrar: store, DrainDelay: -1}, srv, listen(t))
	registered(t, store)
	client := newClient(t)
	for range 2 {
		if res, err := client.Post("http://"+r.address, "", nil); err == nil {
			res.Body.Close()
			t.Errorf("it answers %s", res.Status)
		}
	}
	r.serves(t)
	r.leave()
	if err := r.ends(t); err != nil {
		t.Error(err)
	}
}

func TestServe_SecondSignalCutsRequests(t *testing.T) {
	store := newStore(t)
	entered, release := make(chan struct{}), make(chan struct{})
	defer close(release)
	r, _ := startHTTP(t, &serve.Service{
		Registrar: store, DrainDelay: -1, StopTimeout: time.Hour, Signals: []os.Signal{userSignal},
	}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(entered); <-release }))
	registered(t, store)
	failed := make(chan error, 1)
	client := newClient(t)
	go func() {
		res, err := client.Post("http://"+r.address, "", nil)
		if err == nil {
			res.Body.Close()
		}
		failed <- err
	}()
	<-entered
	signal := func() {
		if err := raise(userSignal); err != nil {
			t.Fatal(err)
		}
	}
	signal()
	watchtest.Eventually(t, "it to stop listening", func() bool { return refusesConnections(r.address) })
	if set := lookup(t, store); len(set) != 0 {
		t.Errorf("the registry has %v", set)
	}
	r.serves(t)
	signal()
	if err := r.ends(t); err != nil {
		t.Error(err)
	}
	if err := watchtest.Receive(t, "the request to be cut", failed); err == nil {
		t.Error("the request has an answer")
	}
}

func TestServe_CutsRequestsAfterStopTimeout(t *testing.T) {
	store := newStore(t)
	entered := make(chan struct{})
	r, _ := startHTTP(t, &serve.Service{Registrar: store, DrainDelay: -1, StopTimeout: 20 * time.Millisecond},
		http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { close(entered); <-r.Context().Done() }))
	registered(t, store)
	failed := make(chan error, 1)
	client := newClient(t)
	go func() {
		_, err := client.Post("http://"+r.address, "", nil)
		failed <- err
	}()
	<-entered
	r.leave()
	if err := r.ends(t); err != nil {
		t.Error(err)
	}
	if err := watchtest.Receive(t, "the request to be cut", failed); err == nil {
		t.Error("the request has an answer")
	}
}

func TestServe_ClosesServerThatCannotBeShutDown(t *testing.T) {
	store := newStore(t)
	base := &http.Server{Handler: hello}
	closed := make(chan struct{})
	srv := fake{
		Server: base, shutdown: func(context.Context) error { return errors.New("no shutdown") },
		close: sync.OnceValue(func() error { close(closed); return base.Close() }),
	}
	r := start(t, &serve.Service{Registrar: store, DrainDelay: -1, StopTimeout: time.Hour}, srv, listen(t))
	registered(t, store)
	r.leave()
	if err := r.ends(t); err != nil {
		t.Error(err)
	}
	if !isClosed(closed) {
		t.Error("it was not closed")
	}
}

func TestServe_LeavesRegistryIfCallerStopsServers(t *testing.T) {
	for name, stop := range map[string]func(*http.Server) error{
		"Close": (*http.Server).Close, "Shutdown": func(s *http.Server) error { return s.Shutdown(context.Background()) },
	} {
		t.Run(name, func(t *testing.T) {
			store := newStore(t)
			admin, adminListener := &http.Server{Handler: hello}, listen(t)
			r, srv := startHTTP(t, &serve.Service{
				Registrar: store, DrainDelay: time.Hour, Endpoints: map[string]serve.Endpoint{"admin": {admin, adminListener}},
			}, hello)
			registered(t, store)
			if err := stop(srv); err != nil {
				t.Error(err)
			}
			watchtest.Eventually(t, "the instance to be in maintenance", func() bool {
				return lookup(t, store)[0].Status == registry.Maintenance
			})
			if code, _ := get(t, newClient(t), "http://"+adminListener.Addr().String()); code != http.StatusOK {
				t.Errorf("the other server, which drains, answers %d", code)
			}
			r.serves(t)
			if err := stop(admin); err != nil {
				t.Error(err)
			}
			if err := r.ends(t); err != nil || len(lookup(t, store)) != 0 {
				t.Errorf("it returned %v and left %v", err, lookup(t, store))
			}
		})
	}
}

func TestService_DrainLeavesRegistryAndServes(t *testing.T) {
	store := newStore(t)
	s := &serve.Service{Registrar: store, Instance: registry.Instance{Service: service}, DrainDelay: 10 * time.Millisecond}
	var e *registry.Error
	if err := s.Drain(t.Context()); !errors.As(err, &e) || e.Error() != "rollcall: drain backend: unavailable: Serve was not called yet" {
		t.Errorf("before Serve, Drain says %v", err)
	}
	r, _ := startHTTP(t, s, hello)
	registered(t, store)
	for range 2 {
		if err := s.Drain(watchtest.Context(t)); err != nil {
			t.Error(err)
		}
	}
	if set := lookup(t, store); len(set) != 0 || !isClosed(s.Leaving()) {
		t.Errorf("drained, the registry has %v", set)
	}
	if code, _ := get(t, newClient(t), "http://"+r.address); code != http.StatusOK {
		t.Errorf("drained, it answers %d", code)
	}
	r.leave()
	if err := r.ends(t); err != nil {
		t.Error(err)
	}
}

func TestService_LaterCopySharesState(t *testing.T) {
	store := newStore(t)
	s := &serve.Service{Registrar: store, Instance: registry.Instance{Service: service}, DrainDelay: -1}
	independent := *s
	s.NotReady()
	shared := *s
	r, _ := startHTTP(t, &shared, hello)
	watchtest.Eventually(t, "it to be registered as critical", func() bool {
		set := lookup(t, store)
		return len(set) == 1 && set[0].Status == registry.Critical
	})
	watchtest.Eventually(t, "the original to have the registration of its later copy", func() bool { return len(s.Registrations()) == 1 })
	if len(independent.Registrations()) != 0 {
		t.Error("the earlier copy has the registration too")
	}
	r.leave()
	if err := r.ends(t); err != nil {
		t.Error(err)
	}
	if !isClosed(s.Leaving()) || isClosed(independent.Leaving()) {
		t.Error("Leaving is open in the original, or closed in the earlier copy")
	}
}

// recorder is a server that records what it is told about its services.
type recorder struct {
	*http.Server
	store *memory.Registry
	mu    sync.Mutex
	told  []serve.Health
}

func (r *recorder) ReportHealth(h serve.Health) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = append(r.told, h)
}

func TestService_ReportsHealth(t *testing.T) {
	store := newStore(t)
	rec := &recorder{Server: &http.Server{Handler: hello}, store: store}
	s := &serve.Service{
		Registrar: store, Instance: registry.Instance{Service: "a"}, DrainDelay: -1,
		Services: []registry.Instance{{Service: "b"}, {Service: "c", Status: registry.Critical}},
	}
	s.NotReady("b")
	r := start(t, s, rec, listen(t))
	watchtest.Eventually(t, "all to be registered", func() bool { return len(s.Registrations()) == 3 })
	s.Ready()
	s.NotReady()
	r.leave()
	if err := r.ends(t); err != nil {
		t.Error(err)
	}
	s.Ready() // too late
	want := "[{map[a:true b:false c:false] false} {map[a:true b:true c:false] false} {map[a:false b:false c:false] false} {map[a:false b:false c:false] true}]"
	if got := fmt.Sprint(rec.told); got != want {
		t.Errorf("it was told %s, want %s", got, want)
	}
}

// A handler for the end of a process, such as an HTTP preStop hook, may call Drain when a signal has ended Serve already. Serve waits for the
// handler, so Drain must not wait for Serve.
func TestService_DrainOfAHandlerWhileServeLeaves(t *testing.T) {
	store := newStore(t)
	s := &serve.Service{Registrar: store, DrainDelay: 10 * time.Millisecond, StopTimeout: watchtest.Timeout}
	asked := make(chan struct{})
	r, _ := startHTTP(t, s, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		close(asked)
		<-s.Leaving()
		if err := s.Drain(req.Context()); err != nil {
			t.Error(err)
		}
		io.WriteString(w, "drained")
	}))
	registered(t, store)
	answered := make(chan string)
	go func() {
		_, text := get(t, newClient(t), "http://"+r.address)
		answered <- text
	}()
	watchtest.Receive(t, "the request", asked)
	r.leave()
	if text := watchtest.Receive(t, "an answer", answered); text != "drained" {
		t.Errorf("the answer is %q", text)
	}
	if err := r.ends(t); err != nil {
		t.Error(err)
	}
}
