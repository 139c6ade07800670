package contender

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	_ "github.com/mbobakov/grpc-consul-resolver" // registers the scheme consul
	"github.com/zeromicro/go-zero/core/discov"
	"github.com/zeromicro/go-zero/core/logx"
	zrpcresolver "github.com/zeromicro/go-zero/zrpc/resolver"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/resolver"
	"google.golang.org/grpc"
	grpcresolver "google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"
)

// These contenders are resolvers of gRPC. Their watcher replaces gRPC, as the receiver of their states.

var grpcConsulResolver = Contender{Name: "grpc-consul-resolver", Backend: "consul", Module: "github.com/mbobakov/grpc-consul-resolver", Form: Agent,
	Open: func(address string) (Client, error) {
		return &resolving{builder: grpcresolver.Get("consul"), target: func(service string) string { return consulTarget(address, service) }}, nil
	},
	Dial: func(address, service, policy string, opts ...grpc.DialOption) (*grpc.ClientConn, func(), error) {
		return dial(consulTarget(address, service), policy, func() {}, opts...)
	},
}

// consulTarget asks for healthy instances, as its README does.
func consulTarget(address, service string) string {
	return "consul://" + address + "/" + service + "?healthy=true"
}

var etcdNaming = Contender{Name: "etcd naming/resolver", Backend: "etcd", Module: "go.etcd.io/etcd/client/v3", Form: Naming,
	Open: func(address string) (Client, error) {
		c, b, err := openNaming(address)
		if err != nil {
			return nil, err
		}
		return &resolving{builder: b, target: namingTarget, end: func() { c.Close() }}, nil
	},
	Dial: func(address, service, policy string, opts ...grpc.DialOption) (*grpc.ClientConn, func(), error) {
		c, b, err := openNaming(address)
		if err != nil {
			return nil, nil, err
		}
		return dial(namingTarget(service), policy, func() { c.Close() }, append(opts, grpc.WithResolvers(b))...)
	},
}

// namingTarget is the prefix without its last slash, which the resolver adds.
func namingTarget(service string) string {
	return "etcd:///" + strings.TrimSuffix(Naming.Prefix(service), "/")
}

func openNaming(address string) (*clientv3.Client, grpcresolver.Builder, error) {
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{address}, DialTimeout: 5 * time.Second})
	if err != nil {
		return nil, nil, err
	}
	b, err := resolver.NewBuilder(c)
	return c, b, err
}

// goZero watches with its Subscriber. Its gRPC resolver, over the same, hands gRPC 32 of the addresses at the most.
var goZero = Contender{Name: "go-zero discov", Backend: "etcd", Module: "github.com/zeromicro/go-zero", Form: GoZero,
	Open: func(address string) (Client, error) {
		logx.Disable()
		return &goZeroClient{address: address}, nil
	},
	Dial: func(address, service, policy string, opts ...grpc.DialOption) (*grpc.ClientConn, func(), error) {
		logx.Disable()
		zrpcresolver.Register()
		return dial(zrpcresolver.BuildDiscovTarget([]string{address}, goZeroKey(service)), policy, func() {}, opts...)
	},
}

func goZeroKey(service string) string { return strings.TrimSuffix(GoZero.Prefix(service), "/") }

type goZeroClient struct {
	address string
	open    []*discov.Subscriber
}

func (c *goZeroClient) Watch(service string, got func(Set)) error {
	s, err := discov.NewSubscriber([]string{c.address}, goZeroKey(service))
	if err != nil {
		return err
	}
	c.open = append(c.open, s)
	s.AddListener(func() { got(addresses(s.Values())) })
	got(addresses(s.Values()))
	return nil
}

func (c *goZeroClient) Close() {
	for _, s := range c.open {
		s.Close()
	}
}

func dial(target, policy string, end func(), opts ...grpc.DialOption) (*grpc.ClientConn, func(), error) {
	cc, err := grpc.NewClient(target, append(opts, withPolicy(policy))...)
	if err != nil {
		end()
		return nil, nil, err
	}
	cc.Connect()
	return cc, func() { cc.Close(); end() }, nil
}

// resolving is a client that builds a resolver for each watch.
type resolving struct {
	builder grpcresolver.Builder
	target  func(service string) string
	end     func()
	open    []grpcresolver.Resolver
}

func (c *resolving) Watch(service string, got func(Set)) error {
	u, err := url.Parse(c.target(service))
	if err != nil {
		return err
	}
	r, err := c.builder.Build(grpcresolver.Target{URL: *u}, taker{got}, grpcresolver.BuildOptions{})
	if err != nil {
		return fmt.Errorf("%s: %w", u.Redacted(), err)
	}
	c.open = append(c.open, r)
	return nil
}

func (c *resolving) Close() {
	for _, r := range c.open {
		r.Close()
	}
	if c.end != nil {
		c.end()
	}
}

// taker is a channel that takes states and does nothing with them.
type taker struct{ got func(Set) }

func (t taker) UpdateState(s grpcresolver.State) error {
	t.got(setOf(s))
	return nil
}
func (t taker) ReportError(error)                   {}
func (t taker) NewAddress(a []grpcresolver.Address) { t.UpdateState(grpcresolver.State{Addresses: a}) }
func (t taker) ParseServiceConfig(string) *serviceconfig.ParseResult {
	return &serviceconfig.ParseResult{}
}

// setOf returns the set of a state: its endpoints, or its addresses if it has no endpoints.
func setOf(s grpcresolver.State) Set {
	if len(s.Endpoints) == 0 {
		return Set{len(s.Addresses), func(address string) bool {
			for _, a := range s.Addresses {
				if a.Addr == address {
					return true
				}
			}
			return false
		}}
	}
	return Set{len(s.Endpoints), func(address string) bool {
		for _, e := range s.Endpoints {
			for _, a := range e.Addresses {
				if a.Addr == address {
					return true
				}
			}
		}
		return false
	}}
}
