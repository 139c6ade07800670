package grpcx_test

import (
	"context"
	"errors"
	"iter"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

const target = "rollcall:///" + service

// threeBackends returns servers that are registered, and a channel that is connected to all of them.
func threeBackends(t *testing.T) ([]*backend, *grpc.ClientConn) {
	t.Helper()
	store := newStore(t)
	var backends []*backend
	for range 3 {
		b := newBackend(t).serve(t)
		backends = append(backends, b)
		registerAddress(t, store, b.address())
	}
	conn := dial(t, target, store)
	for _, b := range backends {
		answers(t, conn, b.address())
	}
	return backends, conn
}

func TestNewClient_SpreadsCallsEvenly(t *testing.T) {
	backends, conn := threeBackends(t)
	for _, b := range backends {
		b.calls.Store(0)
	}
	for range 300 {
		if _, err := call(watchtest.Context(t), conn); err != nil {
			t.Fatal(err)
		}
	}
	for _, b := range backends {
		if n := b.calls.Load(); n != 100 {
			t.Errorf("%s answered %d of 300 calls, want 100", b.address(), n)
		}
	}
}

func TestNewClient_SelectsInstancesByTarget(t *testing.T) {
	store := newStore(t)
	blue, green := newBackend(t).serve(t), newBackend(t).serve(t)
	for _, in := range []registry.Instance{
		{Service: service, Address: blue.address(), Tags: []string{"a", "blue"}, Version: "1", Metadata: map[string]string{"k": "v w"}, Status: registry.Warning},
		{Service: service, Address: green.address(), Tags: []string{"a", "green"}, Version: "2"},
	} {
		if _, err := store.Register(watchtest.Context(t), in); err != nil {
			t.Fatal(err)
		}
	}
	for query, want := range map[string]string{
		"?tag=a&tag=blue&any-status=true":   blue.address(),
		"?version=1&any-status=1":           blue.address(),
		"?meta.k=v%20w&any-status=true":     blue.address(),
		"?tag=a":                            green.address(),
		"?version=2&tag=green&any-status=0": green.address(),
		"?version=2&tag=blue":               "",
		"":                                  green.address(),
	} {
		conn := dial(t, target+query, store)
		for range 5 {
			who, err := call(watchtest.Context(t), conn)
			if who != want || (err == nil) != (want != "") {
				t.Errorf("%s was answered by %q, %v, want %q", query, who, err, want)
			}
		}
	}
}

func TestNewClient_NamesInvalidPartsOfTarget(t *testing.T) {
	store := newStore(t)
	for bad, want := range map[string]string{
		"rollcall:///a/b":                          `Service: "a/b" contains '/'`,
		"rollcall:///":                             "Service is required",
		"rollcall://backend":                       "a host has no meaning here",
		"rollcall://u:hunter2@h/backend":           "a host has no meaning here",
		"rollcall:///backend?tags=a":               `unknown URL parameter "tags" (known: any-status, config, empty-grace, endpoint, health, meta.…, panic-threshold, policy, retry, subset, tag, tls-name, version)`,
		"rollcall:///backend?any-status=perh":      `"any-status": "perh" is not true or false`,
		"rollcall:///backend#f":                    "fragment",
		"rollcall:///backend?subset=-1":            "Subset (subset): -1 is negative",
		"rollcall:///backend?empty-grace=-1s":      `"empty-grace": "-1s" is not a duration`,
		"rollcall:///backend?panic-threshold=half": `"panic-threshold": "half" is not a share`,
		"rollcall:///backend?panic-threshold=-1":   `"panic-threshold": "-1" is not a share`,
		"rollcall:///backend?panic-threshold=NaN":  `"panic-threshold": "NaN" is not a share`,
		"rollcall:///backend?panic-threshold=2":    "PanicThreshold (panic-threshold): 2 is above 1",
		"rollcall:///backend?tls-name=meta.":       `"tls-name": "meta." is neither`,
		"rollcall:///back%zzend":                   "invalid URL escape",
	} {
		_, err := grpcx.NewClient(bad, store, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if !errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s says %v, want %s", bad, err, want)
		}
	}
	for _, other := range []string{"backend", "dns:///backend", "passthrough:///rollcall:", "consul://h/backend"} {
		if _, err := grpcx.NewClient(other, store, grpc.WithTransportCredentials(insecure.NewCredentials())); !errors.Is(err, registry.ErrInvalid) {
			t.Errorf("%s says %v", other, err)
		}
	}
}

func TestNewClient_FailsAtOnceForUnknownServiceUnlessWaitForReady(t *testing.T) {
	store := newStore(t)
	conn := dial(t, target, store)
	_, err := call(watchtest.Context(t), conn)
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), `service "backend" in memory: no passing instance is registered`) {
		t.Errorf("it says %v", err)
	}
	answered := make(chan error)
	go func() {
		_, err := call(watchtest.Context(t), conn, grpc.WaitForReady(true))
		answered <- err
	}()
	registerAddress(t, store, newBackend(t).serve(t).address())
	if err := <-answered; err != nil {
		t.Errorf("a call that waits says %v", err)
	}
}

func TestNewClient_ReportsReasonUntilNextInstanceComes(t *testing.T) {
	store := newStore(t)
	first := newBackend(t).serve(t)
	g := registerAddress(t, store, first.address())
	conn := dial(t, target+"?empty-grace=0", store)
	answers(t, conn, first.address())
	if err := g.Deregister(watchtest.Context(t)); err != nil {
		t.Fatal(err)
	}
	says := func(what string) {
		t.Helper()
		watchtest.Eventually(t, "calls to say "+what, func() bool {
			_, err := call(watchtest.Context(t), conn)
			return status.Code(err) == codes.Unavailable && strings.Contains(err.Error(), `service "backend" in memory: `) && strings.Contains(err.Error(), what)
		})
	}
	says("no passing instance is registered")
	store.Fail(errors.New("the network is gone"))
	says("the network is gone")
	store.Heal()
	says("no passing instance is registered")
	second := newBackend(t).serve(t)
	registerAddress(t, store, second.address())
	answers(t, conn, second.address())
}

// A policy of the caller's that can show the text does so.
func TestNewClient_PickFirstReportsThatNoInstanceIsRegistered(t *testing.T) {
	store := newStore(t)
	b := newBackend(t).serve(t)
	g := registerAddress(t, store, b.address())
	conn := dial(t, target+"?empty-grace=0", store, grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"pick_first":{}}]}`))
	answers(t, conn, b.address())
	if err := g.Deregister(watchtest.Context(t)); err != nil {
		t.Fatal(err)
	}
	watchtest.Eventually(t, "calls to say why they fail", func() bool {
		_, err := call(watchtest.Context(t), conn)
		return err != nil && strings.Contains(err.Error(), `service "backend" in memory: no passing instance is registered`)
	})
}

func TestNewClient_LosesOnlyCallInFlightToCrash(t *testing.T) {
	backends, conn := threeBackends(t)
	backends[0].gs.Stop() // and stays registered
	failed := 0
	for range 300 {
		if _, err := call(watchtest.Context(t), conn); err != nil {
			failed++
		}
	}
	// One call at a time is made, so that one is in flight when the connection breaks.
	if failed > 1 {
		t.Errorf("%d of 300 calls failed, want at most the one in flight", failed)
	}
}

func TestNewClient_DialsIPv6(t *testing.T) {
	store := newStore(t)
	b := newBackend(t).serve(t)
	registerAddress(t, store, "[2001:db8::1]:443")
	dialled := make(chan string, 1)
	conn := dial(t, target, store, grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		select {
		case dialled <- address:
		default:
		}
		return new(net.Dialer).DialContext(ctx, "tcp", b.address())
	}))
	if _, err := call(watchtest.Context(t), conn); err != nil {
		t.Fatal(err)
	}
	if got := <-dialled; got != "[2001:db8::1]:443" {
		t.Errorf("gRPC dialled %s", got)
	}
}

func TestNewClient_WaitsForRegistryThatIsDownAtStart(t *testing.T) {
	store := newStore(t)
	b := newBackend(t).serve(t)
	registerAddress(t, store, b.address())
	client := store.Client()
	t.Cleanup(func() { client.Close() })
	client.Fail(errors.New("the network is gone"))
	conn := dial(t, target, client)
	if _, err := call(watchtest.Context(t), conn); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "the network is gone") {
		t.Errorf("it says %v", err)
	}
	client.Heal()
	answers(t, conn, b.address()) // an error from Build would have stayed for half an hour
}

func TestNewClient_CallsGoOnDuringOutage(t *testing.T) {
	store := newStore(t)
	b := newBackend(t).serve(t)
	registerAddress(t, store, b.address())
	conn := dial(t, target, store)
	answers(t, conn, b.address())
	store.Fail(errors.New("down"))
	for _, err := range store.Watch(watchtest.Context(t), registry.Query{Service: service}) {
		if err != nil {
			break // the channel, which shares the watch, has the news too
		}
	}
	for range 200 {
		if _, err := call(watchtest.Context(t), conn); err != nil {
			t.Fatal(err)
		}
	}
	store.Heal()
	second := newBackend(t).serve(t)
	registerAddress(t, store, second.address())
	answers(t, conn, b.address(), second.address())
}

// failing yields one set with an error, and nothing more.
type failing struct {
	registry.Discovery
	set []*registry.Instance
	err error
}

func (f failing) Watch(ctx context.Context, _ registry.Query) iter.Seq2[[]*registry.Instance, error] {
	return func(yield func([]*registry.Instance, error) bool) {
		yield(f.set, f.err)
		<-ctx.Done()
	}
}

// A status that the registry's own client left in its error would end even calls that wait.
func TestNewClient_HidesStatusInErrorOfRegistry(t *testing.T) {
	err := &registry.Error{Op: "watch", Service: service, Err: status.Error(codes.PermissionDenied, "etcd says no")}
	conn := dial(t, target, failing{err: err})
	if _, err := call(watchtest.Context(t), conn); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "etcd says no") {
		t.Errorf("it says %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := call(ctx, conn, grpc.WaitForReady(true)); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("a call that waits says %v", err)
	}
}

// As after a start without the registry, with the set that an earlier run left on disk.
func TestNewClient_UsesSetBesideError(t *testing.T) {
	b := newBackend(t).serve(t)
	in := &registry.Instance{ID: "a", Service: service, Address: b.address(), Weight: 1}
	conn := dial(t, target, failing{set: []*registry.Instance{in}, err: errors.New("the set is from disk")})
	if who, err := call(watchtest.Context(t), conn); err != nil || who != b.address() {
		t.Errorf("answered by %q, %v", who, err)
	}
}

func TestNewClient_KeepsConnectionWhenMetadataChanges(t *testing.T) {
	store := newStore(t)
	b := newBackend(t).serve(t)
	g := registerAddress(t, store, b.address())
	conn := dial(t, target, store)
	answers(t, conn, b.address())
	for i := range 10 {
		in := g.Instance()
		in.Metadata = map[string]string{"n": strings.Repeat("x", i)}
		in.Weight, in.Zone, in.Version = i+1, in.Zone+"z", in.Version+"1"
		if err := g.Update(watchtest.Context(t), in); err != nil {
			t.Fatal(err)
		}
		for set := range store.Watch(watchtest.Context(t), registry.Query{Service: service}) {
			if len(set) == 1 && set[0].Weight == i+1 {
				break
			}
		}
		if _, err := call(watchtest.Context(t), conn); err != nil {
			t.Fatal(err)
		}
	}
	if n := b.lis.accepted.Load(); n != 1 {
		t.Errorf("%d connections for one instance that changed ten times, want 1", n)
	}
}

func TestNewClient_ChannelsShareOneWatch(t *testing.T) {
	store := newStore(t)
	b := newBackend(t).serve(t)
	registerAddress(t, store, b.address())
	before := store.Calls()
	for range 500 {
		conn := dial(t, target, store)
		if _, err := call(watchtest.Context(t), conn); err != nil {
			t.Fatal(err)
		}
	}
	// The first set, the wait for the next, and what the lease costs meanwhile.
	if n := store.Calls() - before; n > 10 {
		t.Errorf("500 channels made %d calls to the registry, want a few", n)
	}
}

func TestNewClient_OpensAndClosesChannelsDuringChanges(t *testing.T) {
	store := newStore(t)
	b := newBackend(t).serve(t)
	g := registerAddress(t, store, b.address())
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			in := g.Instance()
			in.Weight = i%100 + 1
			if err := g.Update(watchtest.Context(t), in); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for i := range 1000 {
		conn := dial(t, target, store)
		if i%2 == 0 {
			if _, err := call(watchtest.Context(t), conn); err != nil {
				t.Fatal(err)
			}
		} else {
			conn.Connect()
		}
		conn.Close()
	}
	close(stop)
	<-stopped
	// TestMain finds what was left running.
}
