package guard

import (
	"encoding/json"
	"errors"
	"fmt"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/serviceconfig"

	"github.com/rollcall-go/rollcall/grpcx/internal/explain"
	"github.com/rollcall-go/rollcall/internal/failure"
	"github.com/rollcall-go/rollcall/registry"
)

// Name is the name of a policy that wraps another policy by [New]. Its config has one member, childPolicy, in the form of
// loadBalancingConfig in a service config. It uses the first policy in it that is registered.
const Name = "rollcall_guarded"

// otherName is a second name of the same policy. gRPC keeps the connections of a policy until its successor is connected only if the two have
// different names, so the name must change with the wrapped policy.
const otherName = "rollcall_guarded_other"

func init() {
	balancer.Register(wrapper{Name})
	balancer.Register(wrapper{otherName})
}

// IsWrapper reports whether name is a name of the policy that wraps others.
func IsWrapper(name string) bool { return name == Name || name == otherName }

// Other returns the name of a wrapper that takes the place of the wrapper with this name, for another policy.
func Other(name string) string {
	if name == Name {
		return otherName
	}
	return Name
}

// Guarded is implemented by builders of policies that are already wrapped by [New].
type Guarded interface{ Guarded() }

type wrapper struct{ name string }

// Name implements [balancer.Builder].
func (w wrapper) Name() string { return w.name }

// Guarded implements [Guarded].
func (wrapper) Guarded() {}

// child is the config of a wrapper.
type child struct {
	serviceconfig.LoadBalancingConfig

	builder balancer.Builder
	config  serviceconfig.LoadBalancingConfig
}

// ParseConfig implements [balancer.ConfigParser].
func (wrapper) ParseConfig(js json.RawMessage) (serviceconfig.LoadBalancingConfig, error) {
	var c struct {
		Child []map[string]json.RawMessage `json:"childPolicy"`
	}
	fail := func(err error) (serviceconfig.LoadBalancingConfig, error) {
		return nil, failure.New("parse "+Name, "", fmt.Errorf("%w: childPolicy: %w", registry.ErrInvalid, err))
	}
	if err := json.Unmarshal(js, &c); err != nil {
		return fail(err)
	}
	for _, policies := range c.Child {
		for name, js := range policies {
			b := balancer.Get(name)
			if b == nil {
				continue
			}
			parsed := &child{builder: b}
			if p, ok := b.(balancer.ConfigParser); ok {
				var err error
				if parsed.config, err = p.ParseConfig(js); err != nil {
					return fail(err)
				}
			}
			return parsed, nil
		}
	}
	return fail(errors.New("none of its policies is registered"))
}

// Build implements [balancer.Builder].
func (wrapper) Build(cc balancer.ClientConn, o balancer.BuildOptions) balancer.Balancer {
	return explain.New(cc, func(cc balancer.ClientConn) balancer.Balancer {
		return New(cc, func(cc balancer.ClientConn) balancer.Balancer { return &switcher{cc: cc, options: o} })
	})
}

// switcher is the policy that its config names. Its methods are called one at a time.
type switcher struct {
	cc      balancer.ClientConn
	options balancer.BuildOptions
	name    string
	policy  balancer.Balancer // nil before the first state
}

// UpdateClientConnState implements [balancer.Balancer].
func (s *switcher) UpdateClientConnState(state balancer.ClientConnState) error {
	c, ok := state.BalancerConfig.(*child)
	if !ok {
		return fmt.Errorf("%s: no config: %w", Name, balancer.ErrBadResolverState)
	}
	if s.policy == nil || s.name != c.builder.Name() {
		s.Close()
		s.name, s.policy = c.builder.Name(), c.builder.Build(s.cc, s.options)
	}
	state.BalancerConfig = c.config
	return s.policy.UpdateClientConnState(state)
}

// ResolverError implements [balancer.Balancer].
func (s *switcher) ResolverError(err error) {
	if s.policy != nil {
		s.policy.ResolverError(err)
	}
}

// UpdateSubConnState implements [balancer.Balancer].
func (s *switcher) UpdateSubConnState(conn balancer.SubConn, state balancer.SubConnState) {
	if s.policy != nil {
		//lint:ignore SA1019 old policies give no listener
		s.policy.UpdateSubConnState(conn, state)
	}
}

// ExitIdle implements [balancer.Balancer].
func (s *switcher) ExitIdle() {
	if s.policy != nil {
		s.policy.ExitIdle()
	}
}

// Close implements [balancer.Balancer].
func (s *switcher) Close() {
	if s.policy != nil {
		s.policy.Close()
	}
}
