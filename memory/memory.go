// Package memory is a registry inside one process, for unit tests, demos and programs that need no other. It is a whole
// backend: announcements are leases that expire, watches block until something changes, and any number of clients share
// one store. What a test needs beyond that, such as an outage, a partition of one client or a lost entry, is injected
// through [Registry].
//
// Everything works inside a testing/synctest bubble, where leases expire in no real time; make the store with [New] there,
// since a named one outlives the bubble.
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
// use. Close it as any other; the store and the entries in it outlive it, each until its lease expires.
type Registry struct {
	*registry.Registry
	client *client
	config Config
}

// Config tunes what [NewWith] returns. The zero value works; a zero field means its default.
type Config struct {
	// TTL is how long an entry that this client announces stays after the last renewal of its lease, as when the client
	// was closed or a fault holds it off. Leases are renewed each third of it. Default: [DefaultTTL]; at least 10 ms.
	TTL time.Duration
	// Options are those of the portable layer.
	Options registry.Options
}

// Validate returns an error that wraps [registry.ErrInvalid] and names the field that cannot be used.
func (c Config) Validate() error {
	if c.TTL != 0 && c.TTL < minTTL {
		return fmt.Errorf("%w: Config.TTL: %v is less than %v", registry.ErrInvalid, c.TTL, minTTL)
	}
	return c.Options.Validate()
}

// New returns the first client of a new store, which nobody else can reach but through [Registry.Client].
func New() *Registry {
	return newRegistry(newStore(""), Config{})
}

// NewWith is New with other settings than the defaults. The error wraps [registry.ErrInvalid].
func NewWith(c Config) (*Registry, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return newRegistry(newStore(""), c), nil
}

// Named returns a new client of the store that memory://name opens: all that name it in this process share it. It is how
// the test of a program that opens its registry by URL looks at the same store, and sets and expires what is in it; faults
// of the client that it returns are its own, not the program's.
func Named(name string) *Registry {
	return newRegistry(namedStore(name), Config{})
}

// Client returns a second client of the same store, with the same settings and with faults of its own: another process, as
// far as r can tell. It works after r was closed, too. The caller closes it.
func (r *Registry) Client() *Registry {
	return newRegistry(r.client.store, r.config)
}

// Driver returns the driver under r, for a test that needs a fault that r does not offer and puts a decorator around it:
// registry.New(decorator{r.Driver()}, registry.Options{}). The faults and [Registry.Calls] of r apply to it.
func (r *Registry) Driver() registry.Driver { return r.client }

func newRegistry(s *store, c Config) *Registry {
	ttl := c.TTL
	if ttl == 0 {
		ttl = DefaultTTL
	}
	cl := &client{store: s, ttl: ttl}
	return &Registry{Registry: registry.New(cl, c.Options), client: cl, config: c}
}

// named holds the stores that have a name. They stay: an empty store is small, and a program has few.
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
