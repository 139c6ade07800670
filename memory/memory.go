// Package memory is a registry inside one process, for unit tests, demos and programs that need no other. It is a whole
// backend: entries expire with their leases, watches block until something changes, and any number of clients share
// one store. The methods of [Registry] inject what a test needs beyond that, such as an outage, a partition of one client or a
// lost entry.
//
// A Lookup sees every change that any client has completed before it, and is not subject to the grace period of a set that shrinks
// without an outage, so a test need not wait. A watch is subject to it; Options.OutageGrace = -1 turns it off.
//
// Everything works inside a testing/synctest bubble, in which leases expire in no real time. Make the store inside the bubble with
// [New]: a named store outlives the bubble.
package memory

import (
	"fmt"
	"sync"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// DefaultTTL is how long an entry outlives the last renewal of its lease.
const DefaultTTL = 15 * time.Second

// minTTL keeps renewing, at a third of the TTL, from becoming a busy loop.
const minTTL = 10 * time.Millisecond

// Registry is a client of a store in this process: a [registry.Registry] with faults to inject. It is safe for concurrent
// use. Close deregisters what it has registered; the store outlives it. After [Registry.Crash] the entries stay too, each until
// its lease expires.
type Registry struct {
	*registry.Registry
	client *client
	config Config
}

// Config tunes what [NewWith] returns. The zero value works; a zero field means its default.
type Config struct {
	// TTL is how long an entry of this client stays after the last renewal of its lease, for example after a crash or during a
	// fault. Leases are renewed each third of it. Default: [DefaultTTL]; at least 10 ms.
	TTL time.Duration
	// Options are the options of the portable layer.
	Options registry.Options
}

// Validate returns an error that wraps [registry.ErrInvalid] and names the field that cannot be used.
func (c Config) Validate() error {
	if c.TTL != 0 && c.TTL < minTTL {
		return fmt.Errorf("%w: Config.TTL: %v is less than %v", registry.ErrInvalid, c.TTL, minTTL)
	}
	return c.Options.Validate()
}

// New returns the first client of a new store. Other clients of it come from [Registry.Client].
func New() *Registry {
	return newRegistry(newStore(""), Config{})
}

// NewWith is New with settings. The error wraps [registry.ErrInvalid].
func NewWith(c Config) (*Registry, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return newRegistry(newStore(""), c), nil
}

// Named returns a new client of the store that memory://name opens. All clients of that name in this process share the store. A
// test of a program that opens its registry by URL uses Named to look at the same store, and to set and expire entries. Faults
// that are injected into the returned client do not affect the program's client.
func Named(name string) *Registry {
	return newRegistry(namedStore(name), Config{})
}

// Client returns another client of the same store, with the same settings and with faults of its own. To r it looks like another
// process. Client works after r was closed, too. The caller closes the result.
func (r *Registry) Client() *Registry {
	return newRegistry(r.client.store, r.config)
}

// Driver returns the driver under r. A test that needs another fault puts a decorator around it:
// registry.New(decorator{r.Driver()}, registry.Options{}). The faults and [Registry.Calls] of r apply to it.
func (r *Registry) Driver() registry.Driver { return r.client }

func newRegistry(s *store, c Config) *Registry {
	ttl := c.TTL
	if ttl == 0 {
		ttl = DefaultTTL
	}
	cl := &client{store: s, ttl: ttl}
	r, err := registry.New(cl, c.Options)
	if err != nil {
		panic(err) // NewWith refuses what Options.Validate does
	}
	return &Registry{Registry: r, client: cl, config: c}
}

// named has the stores with a name. They stay: an empty store is small, and a program has few.
var named = struct {
	sync.Mutex
	stores map[string]*store
}{stores: map[string]*store{}}

func namedStore(name string) *store {
	named.Lock()
	defer named.Unlock()
	s := named.stores[name]
	if s == nil {
		s = newStore(name)
		named.stores[name] = s
	}
	return s
}
