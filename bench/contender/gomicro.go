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

// go-micro reads all instances from Consul that are not critical, and cannot be told to read passing ones only.
var goMicroConsul = Contender{Name: "go-micro", Backend: "consul", Module: "github.com/go-micro/plugins/v4/registry/consul", Form: Agent,
	Open: openGoMicro(microconsul.NewRegistry)}

var goMicroEtcd = Contender{Name: "go-micro", Backend: "etcd", Module: "github.com/go-micro/plugins/v4/registry/etcd", Form: GoMicro,
	Open: openGoMicro(microetcd.NewRegistry)}

// goMicroClient has the selector of a go-micro client: one for the process, over a cache that a watcher updates for each service. The
// cache does not report changes; each call asks the selector. So goMicroClient asks it after each event that the cache has received, and
// once each callInterval, because the cache replaces an entry that is older than a minute only when it is asked for that.
type goMicroClient struct {
	*bare
	selector selector.Selector

	mu       sync.Mutex
	services map[string]*goMicroService
}

// callInterval is the interval of calls for contenders that update their set only when there are calls.
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

// service returns the service with that name. The first call for a name makes it.
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
	events chan struct{} // the cache has received some
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

// ask does what a call does, with a strategy that returns all nodes instead of one.
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

// heardWatcher knows that the cache has processed an event when the cache asks for the next one.
type heardWatcher struct {
	microregistry.Watcher
	service *goMicroService
	gave    bool
}

func (w *heardWatcher) Next() (*microregistry.Result, error) {
	if w.gave {
		select {
		case w.service.events <- struct{}{}:
		default: // the event that waits serves for both
		}
	}
	r, err := w.Watcher.Next()
	w.gave = err == nil
	return r, err
}
