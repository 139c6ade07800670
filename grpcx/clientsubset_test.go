package grpcx_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/registry"
)

// forSeveralSubsets runs test for clients whose subsets of two differ: most of them lack the last of five instances.
func forSeveralSubsets(t *testing.T, test func(n *network, conn *grpc.ClientConn, servers []*node, set []*registry.Instance)) {
	for i := range 6 {
		forEveryPolicy(t, func(n *network, target string) {
			var servers []*node
			var set []*registry.Instance
			for i := range 5 {
				servers = append(servers, n.listen(addressIn(i)))
				set = append(set, at(servers[i], registry.Passing))
			}
			conn := n.client(target+"&subset=2", grpcx.WithResolverConfig(grpcx.ResolverConfig{ClientID: fmt.Sprint("client-", i)}))
			n.says(nil, set...)
			if failed, err := n.call(conn, 10); failed > 0 {
				n.Fatal(err)
			}
			test(n, conn, servers, set)
		})
	}
}

// If all instances of a subset are lost, those outside of it that pass are called.
func TestNewClient_ExtendsSubsetWithoutPassingInstance(t *testing.T) {
	for name, err := range map[string]error{"critical": nil, "withheld": errors.New("withheld")} {
		t.Run(name, func(t *testing.T) {
			forSeveralSubsets(t, func(n *network, conn *grpc.ClientConn, servers []*node, set []*registry.Instance) {
				var ids []string
				for i, s := range servers[:4] {
					n.crash(s)
					ids = append(ids, set[i].ID)
				}
				now, why := set, err
				if err == nil {
					now = slices.Concat(with(registry.Critical, set[:4]...), set[4:])
				} else {
					why = &registry.StaleError{Since: time.Now(), Withheld: ids, Err: err}
				}
				n.says(why, now...)
				var others []*node // services that take the addresses
				for _, s := range servers[:4] {
					others = append(others, n.listen(s.address))
				}
				for range 10 {
					time.Sleep(time.Second)
					if failed, err := n.call(conn, 3); failed > 0 {
						n.Fatal(err)
					}
				}
				n.wantNoCalls(others)
			})
		})
	}
}

// A bad check must not send all calls to the few instances that it lets pass.
func TestNewClient_DoesNotExtendConnectedSubset(t *testing.T) {
	forSeveralSubsets(t, func(n *network, conn *grpc.ClientConn, servers []*node, set []*registry.Instance) {
		before := n.dialled(servers[4].address)
		n.says(nil, slices.Concat(with(registry.Critical, set[:4]...), set[4:])...)
		time.Sleep(10 * time.Second)
		if failed, err := n.call(conn, 10); failed > 0 || n.dialled(servers[4].address) != before {
			n.Errorf("%d of 10 calls fail, %v; the instance outside of the subset is dialled", failed, err)
		}
	})
}
