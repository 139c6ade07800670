// Package contender has what the bench compares: each way to follow a service, used as its own documentation says.
package contender

import (
	"time"

	"google.golang.org/grpc"
)

// Set is what a contender has just told its user about a service.
type Set struct {
	Len int
	Has func(address string) bool
}

// Client is the registry client of one program.
type Client interface {
	// Watch calls got with each set that the contender hands out, one after another, for as long as the client is open. It may
	// block for the first set.
	Watch(service string, got func(Set)) error
	Close()
}

// Registrar keeps instances registered, with the lease or the TTL check of [TTL] and a heartbeat each third of it.
type Registrar interface {
	// Register returns when the registry has stored the instance, and keeps it registered until the process ends. It is called by several
	// goroutines at once.
	Register(Instance) error
}

// TTL is Rollcall's default in both registries.
const TTL = 15 * time.Second

// Contender is a way to follow a service.
type Contender struct {
	Name    string
	Backend string // "consul" or "etcd"
	Module  string // whose version the report names
	Floor   bool   // no library: the least that can be done by hand
	Ours    bool
	Form    Form // of the instances in the registry
	// Asks is the interval at which it polls. 0 means that it does not poll, but gets changes pushed.
	Asks time.Duration

	// Open returns a client of the registry at address. It is nil if the contender is for gRPC only.
	Open func(address string) (Client, error)
	// Register returns a client that registers instances. It is nil if the contender keeps none registered.
	Register func(address string) (Registrar, error)
	// Dial returns a gRPC channel that balances by the policy. It is nil if the contender has no gRPC resolver.
	Dial func(address, service, policy string, opts ...grpc.DialOption) (*grpc.ClientConn, func(), error)
}

// All has the contenders of both backends: the floor of a backend first, then ours.
var All = []Contender{
	bareConsul, rollcallConsul, goKitConsul, grpcConsulResolver, goMicroConsul, kitexConsul,
	bareEtcd, rollcallEtcd, goKitEtcd, etcdNaming, goZero, goMicroEtcd,
}

// Of returns the contenders of one backend.
func Of(backend string) (list []Contender) {
	for _, c := range All {
		if c.Backend == backend {
			list = append(list, c)
		}
	}
	return list
}

// Named returns the contender of that backend and name.
func Named(backend, name string) (Contender, bool) {
	for _, c := range Of(backend) {
		if c.Name == name {
			return c, true
		}
	}
	return Contender{}, false
}

// addresses is the Set of a list of addresses.
func addresses(list []string) Set {
	return Set{len(list), func(address string) bool {
		for _, a := range list {
			if a == address {
				return true
			}
		}
		return false
	}}
}
