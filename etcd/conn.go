package etcd

import (
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
)

// Reconnecting is gRPC's own business, and the one thing here that is tried again without being asked. Its default of up
// to two minutes between attempts would be what an outage lasts for after it has ended.
var reconnect = backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second}

// maxMessage bounds an answer. A page of the list and a batch of events grow with what others wrote, which etcd bounds.
const maxMessage = 1 << 30

// dial returns a connection to the members, in turn. It does not block.
//
// It is gRPC and the types of etcd's API, without etcd's client: that one asks for a token before it returns, and fails
// where it gets none; repeats calls on its own; and resumes a watch silently on a store that was wiped or restored
// meanwhile, and renews a lease for longer than it says.
func dial(s *settings, o ...grpc.DialOption) (*grpc.ClientConn, error) {
	var addresses []resolver.Address
	for _, m := range s.members {
		a := resolver.Address{Addr: m}
		if s.tls != nil && s.tls.ServerName == "" {
			a.ServerName, _, _ = net.SplitHostPort(m)
		}
		addresses = append(addresses, a)
	}
	members := manual.NewBuilderWithScheme("rollcall-etcd")
	members.InitialState(resolver.State{Addresses: addresses})

	creds := insecure.NewCredentials()
	if s.tls != nil {
		creds = credentials.NewTLS(s.tls)
	}
	options := []grpc.DialOption{
		grpc.WithResolvers(members),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"` + balancerName + `":{}}]}`),
		grpc.WithDisableServiceConfig(),
		grpc.WithTransportCredentials(creds),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: reconnect, MinConnectTimeout: s.DialTimeout}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
	}
	if s.KeepAliveTime > 0 {
		options = append(options, grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: s.KeepAliveTime, Timeout: s.KeepAliveTimeout,
		}))
	}
	return grpc.NewClient(members.Scheme()+":///"+s.members[0], append(options, o...)...)
}
