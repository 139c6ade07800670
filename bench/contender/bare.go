package contender

import (
	"context"
	"encoding/json"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
)

// The floor: what is left when a library does nothing but follow. Both begin again after a failure, so that their other
// figures can be had at all.

var bareConsul = Contender{Name: "bare loop", Backend: "consul", Module: "github.com/hashicorp/consul/api", Floor: true, Form: Agent,
	Open: openBareConsul, Register: registerBareConsul, Dial: dialBare(openBareConsul)}

var bareEtcd = Contender{Name: "bare watch", Backend: "etcd", Module: "go.etcd.io/etcd/client/v3", Floor: true, Form: Naming,
	Open: openBareEtcd, Register: registerBareEtcd, Dial: dialBare(openBareEtcd)}

// bare ends the loops of a client.
type bare struct {
	ctx   context.Context
	end   context.CancelFunc
	loops sync.WaitGroup
}

func newBare() *bare {
	ctx, end := context.WithCancel(context.Background())
	return &bare{ctx: ctx, end: end}
}

// pause is how long the floor waits after a failure.
func (b *bare) pause() {
	select {
	case <-b.ctx.Done():
	case <-time.After(time.Second):
	}
}

type bareConsulClient struct {
	*bare
	api *api.Client
}

func openBareConsul(address string) (Client, error) {
	c, err := api.NewClient(&api.Config{Address: address})
	if err != nil {
		return nil, err
	}
	return &bareConsulClient{newBare(), c}, nil
}

func (c *bareConsulClient) Watch(service string, got func(Set)) error {
	return c.follow(service, func(list []string) { got(addresses(list)) })
}

func (c *bareConsulClient) follow(service string, got func([]string)) error {
	c.loops.Go(func() {
		index := uint64(0)
		for c.ctx.Err() == nil {
			o := (&api.QueryOptions{WaitIndex: index, WaitTime: time.Minute}).WithContext(c.ctx)
			entries, meta, err := c.api.Health().Service(service, "", true, o)
			if err != nil {
				index = 0
				c.pause()
				continue
			}
			if meta.LastIndex < index {
				index = 0
				continue
			}
			if meta.LastIndex == index {
				continue
			}
			index = meta.LastIndex
			list := make([]string, len(entries))
			for i, e := range entries {
				list[i] = net.JoinHostPort(e.Service.Address, strconv.Itoa(e.Service.Port))
			}
			got(list)
		}
	})
	return nil
}

func (c *bareConsulClient) Close() { c.end(); c.loops.Wait() }

type bareEtcdClient struct {
	*bare
	etcd *clientv3.Client
}

func openBareEtcd(address string) (Client, error) {
	// Without these two and WithRequireLeader below, a watch does not learn that its member hangs, or is cut off.
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{address}, DialTimeout: 5 * time.Second,
		DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 5 * time.Second})
	if err != nil {
		return nil, err
	}
	return &bareEtcdClient{newBare(), c}, nil
}

func (c *bareEtcdClient) Watch(service string, got func(Set)) error {
	return c.follow(service, func(list []string) { got(addresses(list)) })
}

func (c *bareEtcdClient) follow(service string, got func([]string)) error {
	prefix := Naming.Prefix(service)
	c.loops.Go(func() {
		for c.ctx.Err() == nil {
			c.once(prefix, got)
			c.pause()
		}
	})
	return nil
}

// once reads the set and then its changes, until something fails.
func (c *bareEtcdClient) once(prefix string, got func([]string)) {
	ctx, end := context.WithCancel(c.ctx)
	defer end()
	all, err := c.etcd.Get(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		return
	}
	set := map[string]string{}
	put := func(key, value []byte) {
		var v struct{ Addr string }
		if json.Unmarshal(value, &v) == nil {
			set[string(key)] = v.Addr
		}
	}
	tell := func() {
		list := make([]string, 0, len(set))
		for _, a := range set {
			list = append(list, a)
		}
		got(list)
	}
	for _, kv := range all.Kvs {
		put(kv.Key, kv.Value)
	}
	tell()
	for answer := range c.etcd.Watch(clientv3.WithRequireLeader(ctx), prefix, clientv3.WithPrefix(), clientv3.WithRev(all.Header.Revision+1)) {
		if answer.Err() != nil {
			return
		}
		for _, e := range answer.Events {
			if e.Type == clientv3.EventTypeDelete {
				delete(set, string(e.Kv.Key))
			} else {
				put(e.Kv.Key, e.Kv.Value)
			}
		}
		if len(answer.Events) > 0 {
			tell()
		}
	}
}

func (c *bareEtcdClient) Close() { c.end(); c.loops.Wait(); c.etcd.Close() }

// follower is a client of the floor.
type follower interface {
	Client
	follow(service string, got func(addresses []string)) error
}

// dialBare is a channel that is told the addresses of the floor's sets, and does nothing else.
func dialBare(open func(string) (Client, error)) func(string, string, string, ...grpc.DialOption) (*grpc.ClientConn, func(), error) {
	return func(address, service, policy string, opts ...grpc.DialOption) (*grpc.ClientConn, func(), error) {
		c, err := open(address)
		if err != nil {
			return nil, nil, err
		}
		r := manual.NewBuilderWithScheme("bare")
		r.InitialState(resolver.State{})
		cc, err := grpc.NewClient("bare:///"+service, append(opts, grpc.WithResolvers(r), withPolicy(policy))...)
		if err != nil {
			c.Close()
			return nil, nil, err
		}
		cc.Connect()
		err = c.(follower).follow(service, func(list []string) {
			state := resolver.State{Addresses: make([]resolver.Address, len(list))}
			for i, a := range list {
				state.Addresses[i].Addr = a
			}
			r.UpdateState(state)
		})
		return cc, func() { cc.Close(); c.Close() }, err
	}
}

func withPolicy(name string) grpc.DialOption {
	return grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"` + name + `":{}}]}`)
}

// DialStatic is a channel to addresses that never change.
func DialStatic(list []string, policy string, opts ...grpc.DialOption) (*grpc.ClientConn, func(), error) {
	r := manual.NewBuilderWithScheme("static")
	state := resolver.State{}
	for _, a := range list {
		state.Addresses = append(state.Addresses, resolver.Address{Addr: a})
	}
	r.InitialState(state)
	cc, err := grpc.NewClient("static:///", append(opts, grpc.WithResolvers(r), withPolicy(policy))...)
	if err != nil {
		return nil, nil, err
	}
	return cc, func() { cc.Close() }, nil
}
