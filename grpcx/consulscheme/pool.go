package consulscheme

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/rollcall-go/rollcall/consul"
	"github.com/rollcall-go/rollcall/registry"
)

// clients are the clients of this process. gRPC knows builders by their scheme only, so there is no other place for what they share.
var clients = newPool(registry.DefaultLinger)

// pool shares one client of Consul between all channels with the same settings.
type pool struct {
	linger time.Duration // how long a client stays open after its last channel is closed

	mu   sync.Mutex
	open map[string]*client // by keyOf
}

type client struct {
	reg      *registry.Registry
	channels int
	idle     *time.Timer // closes the client; nil while it has channels
}

// seed makes the secrets in a key useless outside this process.
var seed = func() []byte { b := make([]byte, 32); rand.Read(b); return b }()

// keyOf returns a text that is the same for two configurations if their settings are. Of the secrets it has only a keyed hash. The
// logger, which no target sets, is left out.
func keyOf(c consul.Config) (string, error) {
	shown, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	hash := hmac.New(sha256.New, seed)
	for _, s := range []registry.Secret{c.Username, c.Password, c.Token} {
		fmt.Fprintf(hash, "%q ", s.Reveal())
	}
	return fmt.Sprintf("%s %x", shown, hash.Sum(nil)), nil
}

func newPool(linger time.Duration) *pool {
	return &pool{linger: linger, open: map[string]*client{}}
}

// acquire returns the client for c, and a function that releases it, which must be called once.
func (p *pool) acquire(c consul.Config) (*registry.Registry, func(), error) {
	key, err := keyOf(c)
	if err != nil {
		return nil, nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	cl := p.open[key]
	if cl == nil {
		reg, err := consul.New(c)
		if err != nil {
			return nil, nil, err
		}
		cl = &client{reg: reg}
		p.open[key] = cl
	}
	cl.channels++
	if cl.idle != nil {
		cl.idle.Stop()
		cl.idle = nil
	}
	return cl.reg, func() { p.release(key, cl) }, nil
}

// release is called by the channel's Close, so it does not block.
func (p *pool) release(key string, cl *client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	cl.channels--
	if cl.channels == 0 {
		cl.idle = time.AfterFunc(p.linger, func() { p.close(key, cl) })
	}
}

// close closes a client unless a channel uses it again.
func (p *pool) close(key string, cl *client) {
	p.mu.Lock()
	unused := cl.channels == 0 && p.open[key] == cl
	if unused {
		delete(p.open, key)
	}
	p.mu.Unlock()
	if unused {
		cl.reg.Close()
	}
}
