// Package clientstate lists the clients of this process, which are gRPC channels and HTTP transports. Packages grpcx and httpx add
// theirs, and package statuspage shows all. So a program with a status page need not link gRPC, and the other way round.
//
// A client sets its state when its endpoints or its errors change, and not with each call, so a call costs nothing.
package clientstate

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// Kind is a kind of client.
type Kind string

// The kinds of clients.
const (
	GRPC Kind = "grpc" // a channel
	HTTP Kind = "http" // a transport, for one service
)

// State is how a client is at one moment.
type State struct {
	Kind Kind `json:"kind"`
	// Target is what the program asked for, such as rollcall:///greeter?tag=blue. It may contain metadata, and no password.
	Target  string `json:"target"`
	Service string `json:"service"`
	// Registry is the name of the registry, or "" if it has none.
	Registry string `json:"registry,omitempty"`
	// Policy is the name of the balancing policy, or "" if it is not known.
	Policy string `json:"policy,omitempty"`
	// Endpoints is how many endpoints calls can go to.
	Endpoints int `json:"endpoints"`
	// Subset is how many endpoints the client uses at most, or 0 for all.
	Subset int `json:"subset,omitempty"`
	// Panicking says that the panic threshold is in effect: calls go to endpoints that do not pass, too.
	Panicking bool `json:"panicking,omitempty"`
	// Error says why calls fail, or why the endpoints may be out of date. It is "" if the endpoints are current.
	Error string `json:"error,omitempty"`
	// Since is when the client last came to have endpoints or none, an error or none, or when the panic threshold last took effect
	// or stopped to. At first it is when the client was added.
	Since time.Time `json:"since"`

	// Discovery finds the endpoints of the client. It can be compared with a registry.
	Discovery any `json:"-"`
}

// Condition is a word for how a client is.
type Condition string

// The conditions of clients.
const (
	Ready     Condition = "ready"
	Waiting   Condition = "no answer yet"
	Failing   Condition = "without an endpoint"
	Panicking Condition = "below the panic threshold"
	Stale     Condition = "stale" // it goes on with the last good endpoints
)

// Condition returns the worst condition that s is in.
func (s State) Condition() Condition {
	switch {
	case s.Endpoints == 0 && s.Error == "":
		return Waiting
	case s.Endpoints == 0:
		return Failing
	case s.Panicking:
		return Panicking
	case s.Error != "":
		return Stale
	}
	return Ready
}

// Client is a client in the list. Its methods are safe for concurrent use and do not block.
type Client struct {
	mu    sync.Mutex
	state State
}

// clients are all clients of the process, and the functions that Notify was called with.
var clients struct {
	sync.Mutex
	all   map[*Client]struct{}
	calls map[*func()]struct{}
}

// Add adds a client to the list. s has no endpoint and no error yet. The caller removes the client when it is closed.
func Add(s State) *Client {
	s.Since = time.Now()
	c := &Client{state: s}
	clients.Lock()
	if clients.all == nil {
		clients.all = map[*Client]struct{}{}
	}
	clients.all[c] = struct{}{}
	clients.Unlock()
	notify()
	return c
}

// Set sets what changes in the life of a client: see [State]. reason is its Error.
func (c *Client) Set(endpoints int, panicking bool, reason string) {
	if c.set(endpoints, panicking, reason) {
		notify()
	}
}

// set reports whether the state is another one.
func (c *Client) set(endpoints int, panicking bool, reason string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &c.state
	if (s.Endpoints == 0) != (endpoints == 0) || s.Panicking != panicking || (s.Error == "") != (reason == "") {
		s.Since = time.Now()
	} else if s.Endpoints == endpoints && s.Error == reason {
		return false
	}
	s.Endpoints, s.Panicking, s.Error = endpoints, panicking, reason
	return true
}

// SetPolicy sets the name of the balancing policy.
func (c *Client) SetPolicy(name string) {
	c.mu.Lock()
	isNew := c.state.Policy != name
	c.state.Policy = name
	c.mu.Unlock()
	if isNew {
		notify()
	}
}

// Remove removes c from the list. Nothing of it is kept.
func (c *Client) Remove() {
	clients.Lock()
	delete(clients.all, c)
	clients.Unlock()
	notify()
}

// All returns the state of each client, sorted by service, kind and target. The slice is the caller's.
func All() []State {
	clients.Lock()
	open := make([]*Client, 0, len(clients.all))
	for c := range clients.all {
		open = append(open, c)
	}
	clients.Unlock()
	all := make([]State, len(open))
	for i, c := range open {
		c.mu.Lock()
		all[i] = c.state
		c.mu.Unlock()
	}
	slices.SortFunc(all, func(a, b State) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Target, b.Target), a.Since.Compare(b.Since))
	})
	return all
}

// Notify has f called after each change, until stop is called. f must not block, and must not call this package.
func Notify(f func()) (stop func()) {
	clients.Lock()
	defer clients.Unlock()
	if clients.calls == nil {
		clients.calls = map[*func()]struct{}{}
	}
	clients.calls[&f] = struct{}{}
	return func() {
		clients.Lock()
		defer clients.Unlock()
		delete(clients.calls, &f)
	}
}

func notify() {
	clients.Lock()
	defer clients.Unlock()
	for f := range clients.calls {
		(*f)()
	}
}
