package grpcx_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/grpcx/p2c"
	"github.com/rollcall-go/rollcall/grpcx/weighted"
	"github.com/rollcall-go/rollcall/grpcx/zone"
	"github.com/rollcall-go/rollcall/registry"
)

// Connections to instances that do not pass are used, and are not made again.

// everyPolicy has policies of this module, and policies of gRPC, which NewClient wraps.
var everyPolicy = []string{
	"rollcall_round_robin", weighted.Name, zone.Name, p2c.Name,
	"round_robin", "pick_first", "least_request_experimental",
}

func forEveryPolicy(t *testing.T, test func(n *network, target string)) {
	for _, name := range everyPolicy {
		t.Run(name, func(t *testing.T) {
			inANetwork(t, func(n *network) { test(n, target+"?policy="+name) })
		})
	}
}

func TestNewClient_CallsNoOtherServiceAfterCleanLeave(t *testing.T) {
	forEveryPolicy(t, func(n *network, target string) {
		eu := n.listen(addressIn(0))
		conn := n.client(target)
		n.says(nil, at(eu, registry.Passing))
		if failed, err := n.call(conn, 10); failed > 0 {
			n.Fatal(err)
		}
		n.says(nil)
		if failed, err := n.call(conn, 10); failed > 0 { // the connection is there
			n.Error(err)
		}
		n.leave(eu)
		us := n.listen(eu.address)
		for range 28 { // of the 30 s for which the instance is kept
			time.Sleep(time.Second)
			failed, err := n.call(conn, 10)
			if failed != 10 || status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), `service "backend" in a script`) {
				n.Fatalf("%d of 10 calls fail, %v", failed, err)
			}
		}
		if us.calls.Load() > 0 || n.dialled(us.address) != 1 {
			n.Errorf("the other service got %d calls, and its address was dialled %d times", us.calls.Load(), n.dialled(us.address))
		}
		n.says(nil, at(us, registry.Passing)) // so the registry says that it is the service after all
		if failed, err := n.call(conn, 10); failed > 0 {
			n.Error(err)
		}
	})
}

func TestNewClient_CallsNoOtherServiceAfterCrash(t *testing.T) {
	forEveryPolicy(t, func(n *network, target string) {
		var servers []*node
		var set []*registry.Instance
		for i := range 3 {
			servers = append(servers, n.listen(addressIn(i)))
			set = append(set, at(servers[i], registry.Passing))
		}
		conn := n.client(target)
		n.says(nil, set...)
		if failed, err := n.call(conn, 30); failed > 0 {
			n.Fatal(err)
		}
		n.crash(servers[0])
		n.crash(servers[1])
		time.Sleep(10 * time.Second) // for which the registry does not know
		n.says(nil, slices.Concat(with(registry.Critical, set[:2]...), set[2:])...)
		before := n.dialled(addressIn(0)) + n.dialled(addressIn(1))
		others := []*node{n.listen(addressIn(0)), n.listen(addressIn(1))}
		for range 100 {
			time.Sleep(time.Second)
			if failed, err := n.call(conn, 3); failed > 0 {
				n.Fatal(err)
			}
		}
		n.wantNoCalls(others)
		if after := n.dialled(addressIn(0)) + n.dialled(addressIn(1)); after != before {
			n.Errorf("critical instances were dialled %d times", after-before)
		}
		n.says(nil, set...)
		synctest.Wait()
		if failed, err := n.call(conn, 30); failed > 0 {
			n.Error(err)
		}
		if strings.Contains(target, "pick_first") {
			return
		}
		for _, o := range others {
			if o.calls.Load() == 0 {
				n.Errorf("%s passes again and gets no call", o.address)
			}
		}
	})
}

// The panic threshold is there for this.
func TestNewClient_LosesNoCallToBadCheck(t *testing.T) {
	forEveryPolicy(t, func(n *network, target string) {
		var set []*registry.Instance
		for i := range 3 {
			set = append(set, at(n.listen(addressIn(i)), registry.Passing))
		}
		conn := n.client(target)
		n.says(nil, set...)
		if failed, err := n.call(conn, 30); failed > 0 {
			n.Fatal(err)
		}
		n.says(nil, with(registry.Critical, set...)...)
		for range 60 {
			time.Sleep(time.Second)
			if failed, err := n.call(conn, 3); failed > 0 {
				n.Fatal(err)
			}
		}
		// A channel that starts now has nothing else to connect to.
		conn.Close()
		late := n.client(target)
		n.says(nil, with(registry.Critical, set...)...)
		if failed, err := n.call(late, 30); failed > 0 {
			n.Error(err)
		}
	})
}

func TestNewClient_PrefersPassingInstancesBelowPanicThreshold(t *testing.T) {
	forEveryPolicy(t, func(n *network, target string) {
		well, other := n.listen(addressIn(1)), n.listen(addressIn(0))
		third := n.listen(addressIn(2))
		conn := n.client(target)
		set := []*registry.Instance{at(other, registry.Critical), at(well, registry.Passing), at(third, registry.Critical)}
		n.says(nil, set...)
		for range 10 {
			time.Sleep(time.Second)
			if failed, err := n.call(conn, 10); failed > 0 {
				n.Fatal(err)
			}
		}
		if other.calls.Load() > 0 || third.calls.Load() > 0 || n.dialled(other.address) > 0 {
			n.Errorf("critical instances get %d and %d calls", other.calls.Load(), third.calls.Load())
		}
		// Now nothing passes that can be connected to.
		n.crash(well)
		time.Sleep(5 * time.Second)
		if failed, err := n.call(conn, 10); failed > 0 {
			n.Error(err)
		}
		if strings.Contains(target, "pick_first") {
			return // which looks at no other while it is connected
		}
		// It is back, and so there is no need of others.
		well = n.listen(well.address)
		time.Sleep(time.Minute)
		before := other.calls.Load() + third.calls.Load()
		if failed, err := n.call(conn, 10); failed > 0 || other.calls.Load()+third.calls.Load() != before || well.calls.Load() != 10 {
			n.Errorf("%v; of 10 calls %d go to the passing instance", err, well.calls.Load())
		}
	})
}

func TestNewClient_DoesNotRedialWithheldInstances(t *testing.T) {
	forEveryPolicy(t, func(n *network, target string) {
		first, second := n.listen(addressIn(0)), n.listen(addressIn(1))
		set := []*registry.Instance{at(first, registry.Passing), at(second, registry.Passing)}
		conn := n.client(target)
		n.says(nil, set...)
		if failed, err := n.call(conn, 10); failed > 0 {
			n.Fatal(err)
		}
		n.says(&registry.StaleError{Since: time.Now(), Withheld: []string{set[0].ID, set[1].ID}, Err: errors.New("withheld")}, set...)
		if failed, err := n.call(conn, 10); failed > 0 {
			n.Error(err)
		}
		before := n.dialled(first.address)
		n.crash(first)
		other := n.listen(first.address)
		n.crash(second)
		time.Sleep(time.Minute)
		if failed, _ := n.call(conn, 10); failed != 10 || n.dialled(first.address) != before || other.calls.Load() > 0 {
			n.Errorf("%d of 10 calls fail; the other service got %d", failed, other.calls.Load())
		}
	})
}

// In an outage the set is the best that is known.
func TestNewClient_RedialsInstancesDuringOutage(t *testing.T) {
	forEveryPolicy(t, func(n *network, target string) {
		s := n.listen(addressIn(0))
		conn := n.client(target)
		n.says(nil, at(s, registry.Passing))
		n.says(&registry.StaleError{Since: time.Now(), Err: registry.ErrUnavailable}, at(s, registry.Passing))
		n.crash(s)
		n.listen(s.address)
		time.Sleep(10 * time.Second)
		if failed, err := n.call(conn, 10); failed > 0 {
			n.Error(err)
		}
	})
}

// A channel whose first set is withheld has no evidence against it.
func TestNewClient_DialsWithheldInstancesOnNewChannel(t *testing.T) {
	forEveryPolicy(t, func(n *network, target string) {
		set := []*registry.Instance{at(n.listen(addressIn(0)), registry.Passing), at(n.listen(addressIn(1)), registry.Passing)}
		conn := n.client(target)
		n.says(&registry.StaleError{Since: time.Now(), Withheld: []string{set[0].ID, set[1].ID}, Err: errors.New("withheld")}, set...)
		if failed, err := n.call(conn, 10); failed > 0 {
			n.Error(err)
		}
	})
}

func TestNewClient_LosesNoCallInRollingRestart(t *testing.T) {
	forEveryPolicy(t, func(n *network, target string) {
		var set []*registry.Instance
		var servers []*node
		for i := range 3 {
			servers = append(servers, n.listen(addressIn(i)))
			set = append(set, at(servers[i], registry.Passing))
		}
		conn := n.client(target)
		n.says(nil, set...)
		calls := func() {
			if failed, err := n.call(conn, 30); failed > 0 {
				n.Error(err)
			}
		}
		calls()
		for i := range servers {
			n.says(nil, slices.Delete(slices.Clone(set), i, i+1)...)
			calls()
			n.leave(servers[i])
			calls()
			servers[i] = n.listen(addressIn(i + 3*(i%2))) // some come back at their address
			set[i] = at(servers[i], registry.Passing)
			n.says(nil, set...)
			calls()
		}
	})
}
