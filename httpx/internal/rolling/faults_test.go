package rolling

import (
	"flag"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/httpx"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// outage is how long the registry is away in a test. It is longer than the TTL.
var outage = flag.Duration("outage", 6*time.Second, "how long the registry is away")

// newFleet starts servers, and returns them with a registry that has all of them, and extra further ones.
func newFleet(t *testing.T, b *backend, e *executions, n, extra int) ([]*server, *registry.Registry) {
	t.Helper()
	var fleet []*server
	for range n {
		fleet = append(fleet, startServer(t, b, e))
	}
	reg := b.open(t)
	t.Cleanup(func() { reg.Close() })
	watchtest.Watch(t, reg, registry.Query{Service: service}).Until("all servers", watchtest.Healthy(n+extra))
	return fleet, reg
}

func TestTransport_KilledServerFailsOnlyWhatIsInFlight(t *testing.T) {
	onEachBackend(t, func(t *testing.T, b *backend) {
		e := newExecutions()
		killed := startChild(t, b)
		fleet, reg := newFleet(t, b, e, 2, 1)
		l := startLoad(newClients(t, reg))
		for _, s := range fleet {
			s.answers(t)
		}
		l.waitFor(t, "all clients to be connected to it", func(s httpx.ServiceState) bool { return connections(s, killed.address) > 0 })
		l.goesOn(t)
		killed.kill(t)
		l.waitFor(t, "all clients to have lost their connections", func(s httpx.ServiceState) bool { return connections(s, killed.address) == 0 })
		noticed := time.Now()
		l.goesOn(t)
		l.stop(t)
		if n := killed.addTo(t, e); n < 100 {
			t.Errorf("the killed server has executed %d requests", n)
		}
		l.failsOnlyPostsAt(t, killed.address, noticed)
		l.executesNoPostTwice(t, e)
	})
}

// connections returns how many connections there are to an address.
func connections(s httpx.ServiceState, address string) int {
	for _, in := range s.Instances {
		if in.Address == address {
			return in.Connections
		}
	}
	return 0
}

// failsOnlyPostsAt checks that requests failed only at that address and before the client has noticed that it is lost, and that no GET
// failed which may be sent again.
func (l *load) failsOnlyPostsAt(t *testing.T, address string, noticed time.Time) {
	t.Helper()
	for _, r := range l.failed {
		if r.instance == nil || r.instance.Address != address || r.began.After(noticed) || !r.isPost && r.client.retries {
			t.Errorf("%v; it went to %v, and the loss was noticed at %v", r.failure(), r.instance, noticed.Format(time.StampMicro))
		}
	}
}

func (l *load) executesNoPostTwice(t *testing.T, e *executions) {
	t.Helper()
	for _, r := range l.all {
		times := e.of(r.id)
		if times > 1 && (r.isPost || !r.client.retries && r.client.http2) || times == 0 && r.err == nil {
			t.Errorf("a request with %s was executed %d times (POST: %v, failed: %v)", r.client.name, times, r.isPost, r.err)
		}
	}
}

func TestTransport_OutageOfRegistryFailsNothing(t *testing.T) {
	onEachBackend(t, func(t *testing.T, b *backend) {
		e := newExecutions()
		fleet, reg := newFleet(t, b, e, 3, 0)
		l := startLoad(newClients(t, reg))
		for _, s := range fleet {
			s.answers(t)
		}
		b.away()
		began := time.Now()
		l.waitFor(t, "the outage to be noticed", func(s httpx.ServiceState) bool { return s.Err != "" })
		watchtest.Lasts(t, began, *outage)
		b.back()
		l.waitFor(t, "the registry to be back with all servers", func(s httpx.ServiceState) bool {
			passing := 0
			for _, in := range s.Instances {
				if in.Restriction == "" {
					passing++
				}
			}
			return s.Err == "" && passing == len(fleet)
		})
		for _, s := range fleet {
			s.answers(t)
		}
		l.stop(t)
		l.failsNothing(t, e)
	})
}

func TestTransport_AllCriticalAtOnceFailsNothing(t *testing.T) {
	onEachBackend(t, func(t *testing.T, b *backend) {
		e := newExecutions()
		fleet, reg := newFleet(t, b, e, 3, 0)
		l := startLoad(newClients(t, reg))
		for _, s := range fleet {
			s.answers(t)
		}
		for _, s := range fleet {
			s.NotReady()
		}
		l.waitFor(t, "the panic threshold to take effect", func(s httpx.ServiceState) bool { return s.Panicking })
		l.goesOn(t)
		for _, s := range fleet {
			s.Ready()
		}
		l.waitFor(t, "all to pass", func(s httpx.ServiceState) bool { return !s.Panicking })
		for _, s := range fleet {
			s.answers(t)
		}
		l.stop(t)
		l.failsNothing(t, e)
	})
}

// The address of a killed server is taken over when its entry does not pass. Then all others become critical too, so that the panic
// threshold lets requests go to every instance.
func TestTransport_SendsNothingToAnotherServiceAtAnAddress(t *testing.T) {
	onEachBackend(t, func(t *testing.T, b *backend) {
		e := newExecutions()
		killed := startChild(t, b)
		fleet, reg := newFleet(t, b, e, 2, 1)
		l := startLoad(newClients(t, reg))
		l.waitFor(t, "all clients to be connected to it", func(s httpx.ServiceState) bool { return connections(s, killed.address) > 0 })
		killed.kill(t)
		watchtest.Watch(t, reg, registry.Query{Service: service}).Until("the entry not to pass", watchtest.Healthy(len(fleet)))
		l.waitFor(t, "the clients to know", func(s httpx.ServiceState) bool { return !passes(s, killed.address) })
		other := startOther(t, killed.address)
		for _, s := range fleet {
			s.NotReady()
		}
		l.waitFor(t, "the panic threshold to take effect", func(s httpx.ServiceState) bool { return s.Panicking })
		began := time.Now()
		l.goesOn(t)
		l.stop(t)
		for _, r := range l.failed {
			if r.began.After(began) {
				t.Error(r.failure())
			}
		}
		if n := other.Load(); n != 0 {
			t.Errorf("the other service got %d connections", n)
		}
	})
}

// passes reports whether the instance at an address is used like any other.
func passes(s httpx.ServiceState, address string) bool {
	for _, in := range s.Instances {
		if in.Address == address {
			return in.Restriction == ""
		}
	}
	return false
}

// startOther starts a server of another service, and returns how many connections it gets.
func startOther(t *testing.T, address string) *atomic.Int64 {
	t.Helper()
	lis, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	connections := new(atomic.Int64)
	s := &http.Server{ConnState: func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}}
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(lis) }()
	t.Cleanup(func() { s.Close(); <-done })
	return connections
}
