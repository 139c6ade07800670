package grpcx

import (
	"fmt"
	"strings"

	"google.golang.org/grpc"

	"github.com/rollcall-go/rollcall/registry"
)

// defaultServiceConfig spreads calls over all instances. pick_first, which gRPC takes by default, sends all to one.
const defaultServiceConfig = `{"loadBalancingConfig":[{"` + policyName + `":{}}]}`

// NewClient returns a channel to the service that target names, in the form that [NewBuilder] has: rollcall:///SERVICE,
// with parameters. d must outlive it. It does not block; the caller closes the channel.
//
// It is grpc.NewClient with these defaults, which opts override:
//
//   - round_robin, through grpc.WithDefaultServiceConfig. Its name there is rollcall_round_robin, since calls that fail
//     because the last instance has gone say which service, and in which registry. A service config of the caller's
//     replaces it whole.
//   - No HTTP proxy, through grpc.WithNoProxy: with HTTPS_PROXY set gRPC would hand the proxy's address to the balancer in
//     place of those of the instances, and all calls would end at one. A grpc.WithContextDialer of the caller's can dial
//     through one.
//
// opts must hold transport credentials, as with grpc.NewClient. The error wraps [registry.ErrInvalid] for a target of
// another scheme, which gRPC would silently take for a DNS name, or whose parts cannot be used.
func NewClient(target string, d registry.Discovery, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	if !strings.HasPrefix(target, Scheme+":") {
		return nil, fmt.Errorf("rollcall: %w: target: it does not have the form %s:///SERVICE?parameter=value", registry.ErrInvalid, Scheme)
	}
	defaults := []grpc.DialOption{
		grpc.WithResolvers(NewBuilder(d, ResolverConfig{})),
		grpc.WithDefaultServiceConfig(defaultServiceConfig),
		grpc.WithNoProxy(),
	}
	return grpc.NewClient(target, append(defaults, opts...)...)
}
