package contender

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	microconsul "github.com/go-micro/plugins/v4/registry/consul"
	microetcd "github.com/go-micro/plugins/v4/registry/etcd"
	microregistry "go-micro.dev/v4/registry"
	"go-micro.dev/v4/selector"
)

// go-micro takes from Consul what is not critical, and cannot be told to take only what passes.
var goMicroConsul = Contender{Name: "go-micro", Backend: "consul", Module: "github.com/go-micro/plugins/v4/registry/consul", Form: Agent,
	Open: openGoMicro(microconsul.NewRegistry)}

var goMicroEtcd = Contender{Name: "go-micro", Backend: "etcd", Module: "github.com/go-micro/plugins/v4/registry/etcd", Form: GoMicro,
	Open: openGoMicro(microetcd.NewRegistry)}

// goMicroClient is the selector of a go-micro client: one for the process, over a cache that a watcher keeps up to date for
// each service. The cache tells nobody of a change; each call asks the selector, and so does this, after each event that the
// cache has taken, and once a callInterval: the cache reads anew what is older than its minute only when somebody asks.
type goMicroClient struct {
	*bare
	selector selector.Selector

	mu       sync.Mutex
	services map[string]*goMicroService
}

// callInterval is how often somebody calls, where a contender's set depends on it that somebody does.
const callInterval = time.Second

func openGoMicro(registry func(...microregistry.Option) microregistry.Registry) func(string) (Client, error) {
	return func(address string) (Client, error) {
		c := &goMicroClient{bare: newBare(), services: map[string]*goMicroService{}}
		c.selector = selector.NewSelector(selector.Registry(&heard{registry(microregistry.Addrs(address)), c.service}))
		return c, nil
	}
}

func (c *goMicroClient) Watch(service string, got func(Set)) error {
	s := c.service(service)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchers = append(s.watchers, got)
	if set, ok := c.ask(service); ok {
		got(set)
	}
	if len(s.watchers) == 1 {
		s.read.Store(false) // by this
		c.loops.Go(func() { c.follow(service, s) })
	}
	return nil
}

// service is that of the name, made when it is first asked for.
func (c *goMicroClient) service(name string) *goMicroService {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.services[name]
	if s == nil {
		s = &goMicroService{events: make(chan struct{}, 1)}
		c.services[name] = s
	}
	return s
}

// goMicroService is a service that is watched.
type goMicroService struct {
	events chan struct{} // the cache has taken some
	read   atomic.Bool   // the cache has read anew

	mu       sync.Mutex
	watchers []func(Set)
}

func (c *goMicroClient) follow(name string, s *goMicroService) {
	calls := time.NewTicker(callInterval)
	defer calls.Stop()
	for {
		event := false
		select {
		case <-c.ctx.Done():
			return
		case <-s.events:
			event = true
		case <-calls.C:
		}
		set, ok := c.ask(name)
		if read := s.read.Swap(false); !ok || !event && !read {
			continue // nothing that the watchers do not have
		}
		s.mu.Lock()
		for _, got := range s.watchers {
			got(set)
		}
		s.mu.Unlock()
	}
}

// ask is what a call does, with a strategy that takes all the nodes in place of one.
func (c *goMicroClient) ask(service string) (set Set, ok bool) {
	var list []string
	_, err := c.selector.Select(service, selector.WithStrategy(func(all []*microregistry.Service) selector.Next {
		for _, s := range all {
			for _, n := range s.Nodes {
				list = append(list, n.Address)
			}
		}
		return nil
	}))
	return addresses(list), err == nil || errors.Is(err, selector.ErrNotFound)
}

// Close leaves the registry alone, which cannot be closed.
func (c *goMicroClient) Close() { c.end(); c.loops.Wait(); c.selector.Close() }

// heard is the registry under the cache, and hears when the cache changes.
type heard struct {
	microregistry.Registry
	service func(name string) *goMicroService
}

func (h *heard) GetService(name string, opts ...microregistry.GetOption) ([]*microregistry.Service, error) {
	all, err := h.Registry.GetService(name, opts...)
	h.service(name).read.Store(err == nil || errors.Is(err, microregistry.ErrNotFound))
	return all, err
}

func (h *heard) Watch(opts ...microregistry.WatchOption) (microregistry.Watcher, error) {
	var o microregistry.WatchOptions
	for _, set := range opts {
		set(&o)
	}
	w, err := h.Registry.Watch(opts...)
	if err != nil {
		return nil, err
	}
	return &heardWatcher{Watcher: w, service: h.service(o.Service)}, nil
}

// heardWatcher knows that the cache has taken an event when it asks for the next.
type heardWatcher struct {
	microregistry.Watcher
	service *goMicroService
	gave    bool
}

func (w *heardWatcher) Next() (*microregistry.Result, error) {
	if w.gave {
		select {
		case w.service.events <- struct{}{}:
		default: // the one that waits stands for both
		}
	}
	r, err := w.Watcher.Next()
	w.gave = err == nil
	return r, err
}
