package consulscheme

import (
	"sync"
	"time"

	"github.com/rollcall-go/rollcall/consul"
	"github.com/rollcall-go/rollcall/registry"
)

// clients are those of this process. gRPC knows builders by their scheme alone, so what they share has no other place.
var clients = newPool(registry.DefaultLinger)

// pool shares one client of Consul between all channels with the same settings.
type pool struct {
	linger time.Duration // how long a client stays after its last channel has gone

	mu   sync.Mutex
	open map[consul.Config]*client
}

type client struct {
	reg      *registry.Registry
	channels int
	idle     *time.Timer // closes the client; nil while it has channels
}

func newPool(linger time.Duration) *pool {
	return &pool{linger: linger, open: map[consul.Config]*client{}}
}

// acquire returns the client for c, and a function to call once when it is not needed any more.
func (p *pool) acquire(c consul.Config) (*registry.Registry, func(), error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	cl := p.open[c]
	if cl == nil {
		reg, err := consul.New(c)
		if err != nil {
			return nil, nil, err
		}
		cl = &client{reg: reg}
		p.open[c] = cl
	}
	cl.channels++
	if cl.idle != nil {
		cl.idle.Stop()
		cl.idle = nil
	}
	return cl.reg, func() { p.release(c, cl) }, nil
}

// release is called by the channel's Close, so it does not block.
func (p *pool) release(c consul.Config, cl *client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	cl.channels--
	if cl.channels == 0 {
		cl.idle = time.AfterFunc(p.linger, func() { p.close(c, cl) })
	}
}

// close ends a client that nobody has come back to.
func (p *pool) close(c consul.Config, cl *client) {
	p.mu.Lock()
	unused := cl.channels == 0 && p.open[c] == cl
	if unused {
		delete(p.open, c)
	}
	p.mu.Unlock()
	if unused {
		cl.reg.Close()
	}
}
