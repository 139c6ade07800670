package contender

import (
	"context"
	"net/url"

	"google.golang.org/grpc"

	"github.com/rollcall-go/rollcall/consul"
	"github.com/rollcall-go/rollcall/etcd"
	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/registry"
)

var rollcallConsul = Contender{Name: "Rollcall", Backend: "consul", Module: "github.com/rollcall-go/rollcall", Ours: true, Form: Agent,
	Open: openRollcall("consul"), Register: registerRollcall("consul"), Dial: dialRollcall("consul")}

var rollcallEtcd = Contender{Name: "Rollcall", Backend: "etcd", Module: "github.com/rollcall-go/rollcall", Ours: true, Form: Rollcall,
	Open: openRollcall("etcd"), Register: registerRollcall("etcd"), Dial: dialRollcall("etcd")}

var openers = registry.Openers{"consul": consul.Open, "etcd": etcd.Open}

// OpenRollcall opens the registry, with the defaults.
func OpenRollcall(backend, address string) (*registry.Registry, error) {
	return openers.Open(context.Background(), (&url.URL{Scheme: backend, Host: address}).String())
}

type rollcallClient struct {
	*bare
	*registry.Registry
}

func openRollcall(backend string) func(string) (Client, error) {
	return func(address string) (Client, error) {
		r, err := OpenRollcall(backend, address)
		if err != nil {
			return nil, err
		}
		return &rollcallClient{newBare(), r}, nil
	}
}

func (c *rollcallClient) Watch(service string, got func(Set)) error {
	c.loops.Go(func() {
		for set, err := range c.Registry.Watch(c.ctx, registry.Query{Service: service}) {
			if err != nil && set == nil {
				continue // nothing is known yet, and the watch goes on
			}
			got(Set{len(set), func(address string) bool {
				for _, in := range set {
					if in.Address == address {
						return true
					}
				}
				return false
			}})
		}
	})
	return nil
}

func (c *rollcallClient) Close() { c.end(); c.loops.Wait(); c.Registry.Close() }

func dialRollcall(backend string) func(string, string, string, ...grpc.DialOption) (*grpc.ClientConn, func(), error) {
	return func(address, service, policy string, opts ...grpc.DialOption) (*grpc.ClientConn, func(), error) {
		r, err := OpenRollcall(backend, address)
		if err != nil {
			return nil, nil, err
		}
		cc, err := grpcx.NewClient("rollcall:///"+service+"?policy="+url.QueryEscape(policy), r, opts...)
		if err != nil {
			r.Close()
			return nil, nil, err
		}
		cc.Connect()
		return cc, func() { cc.Close(); r.Close() }, nil
	}
}
