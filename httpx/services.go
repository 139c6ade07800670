package httpx

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rollcall-go/rollcall/internal/choose"
	"github.com/rollcall-go/rollcall/internal/load"
	"github.com/rollcall-go/rollcall/internal/oneline"
	"github.com/rollcall-go/rollcall/registry"
)

// settings are the fields of a Transport with their defaults.
type settings struct {
	discovery     registry.Discovery
	base          *http.Transport
	selectQuery   func(*http.Request) registry.Query
	rules         choose.Rules // without a query
	policy        string
	zone          string
	zoneThreshold float64
	decay         time.Duration
	maxAttempts   int
	retryBudget   int
	idleTimeout   time.Duration
	configKey     string // with the part SERVICE
	observe       func(Event)
}

// core is what a Transport needs after its first request.
type core struct {
	settings

	mu       sync.RWMutex
	services map[string]*service // by the key of the query
	closed   bool
	sweep    *time.Timer    // lets services go; nil while there is none
	closing  sync.WaitGroup // calls of letGo
	dials    sync.WaitGroup // attempts to connect

	leavingMu sync.Mutex
	leaving   map[*node]struct{} // nodes that have left and may have connections
}

func newCore(t *Transport) (*core, error) {
	c := &core{services: map[string]*service{}, leaving: map[*node]struct{}{}, settings: settings{
		discovery: t.Discovery, selectQuery: t.Select,
		rules: choose.Rules{Endpoint: t.Endpoint, TLSName: t.TLSName, Config: choose.Config{
			PanicThreshold: t.PanicThreshold, EmptyGrace: t.EmptyGrace, Subset: t.Subset, ClientID: t.ClientID, Logger: t.Logger,
		}.WithDefaults()},
		policy: cmp.Or(t.Policy, policyRoundRobin), zone: cmp.Or(t.Zone, os.Getenv(ZoneVariable)),
		zoneThreshold: cmp.Or(t.ZoneThreshold, DefaultZoneThreshold), decay: cmp.Or(t.Decay, DefaultDecay),
		maxAttempts: cmp.Or(t.MaxAttempts, DefaultMaxAttempts), retryBudget: cmp.Or(t.RetryBudget, DefaultRetryBudget),
		idleTimeout: cmp.Or(t.IdleTimeout, DefaultIdleTimeout), configKey: t.ServiceConfigKey, observe: t.Observe,
	}}
	if err := c.check(t.Base); err != nil {
		return nil, err
	}
	c.base = template(t.Base)
	return c, nil
}

// check returns an error that names every field that cannot be used.
func (s *settings) check(base *http.Transport) error {
	errs := []error{s.rules.Check(nil)}
	refuse := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{registry.ErrInvalid}, args...)...))
	}
	if s.discovery == nil {
		refuse("Discovery is required")
	}
	if !knownPolicy(s.policy) {
		refuse("Policy: %q is none of round_robin, weighted, zone, p2c", s.policy)
	}
	if !choose.CheckTLSName(s.rules.TLSName) {
		refuse("TLSName: %q is neither host nor meta.KEY", s.rules.TLSName)
	}
	if !(s.zoneThreshold > 0 && s.zoneThreshold <= 1) { // also refuses NaN
		refuse("ZoneThreshold: %v is not above 0 and at most 1", s.zoneThreshold)
	}
	if s.decay < 0 {
		refuse("Decay: %v is negative", s.decay)
	}
	if s.maxAttempts < 1 || s.maxAttempts > mostAttempts {
		refuse("MaxAttempts: %d is not from 1 to %d", s.maxAttempts, mostAttempts)
	}
	switch key, err := choose.ConfigKey(s.configKey, "x"); {
	case err != nil:
		refuse("ServiceConfigKey: %s", strings.TrimPrefix(err.Error(), registry.ErrInvalid.Error()+": "))
	case s.discovery != nil:
		if err := choose.CheckValues(key, s.discovery); err != nil {
			errs = append(errs, err)
		}
	}
	if s.retryBudget < 1 || s.retryBudget > 500 {
		refuse("RetryBudget: %d is not from 1 to 500", s.retryBudget)
	}
	if s.idleTimeout < 0 {
		refuse("IdleTimeout: %v is negative", s.idleTimeout)
	}
	//lint:ignore SA1019 a deprecated field that cannot be used is an error too
	if base != nil && (base.DialTLSContext != nil || base.DialTLS != nil) {
		refuse("Base.DialTLSContext: it cannot be used; set TLSClientConfig, and DialContext")
	}
	return oneline.Join(errs...)
}

const (
	// mostAttempts is the highest MaxAttempts, as in gRPC.
	mostAttempts = 5
	// unknownTimeout is how long a service without instances is watched after its last request.
	unknownTimeout = 30 * time.Second
	// maxUnknown is how many services without instances are watched at a time. If there are more, the service that was used least recently is
	// let go. Someone who can choose the names of services, as at a gateway, cannot make the Transport watch any number of them.
	maxUnknown = 100
	// maxPending is how many services may wait for their first set at a time. If there are more, requests to further ones fail.
	maxPending = 1000
)

// roundTrip finds the service of req, and sends req to it.
func (c *core) roundTrip(req *http.Request) (*http.Response, error) {
	if err := checkRequest(req); err != nil {
		return c.refuse(req, registry.Query{}, err)
	}
	q, err := c.query(req)
	if err != nil {
		return c.refuse(req, q, err)
	}
	out, err := addressed(req, q.Service)
	if err != nil {
		return c.refuse(req, q, err)
	}
	for {
		s, err := c.find(q)
		if err != nil {
			return c.refuse(req, q, err)
		}
		resp, err := s.roundTrip(req, out)
		if err != errGone {
			return resp, err
		}
	}
}

// refuse returns err for a request that is tried on no instance.
func (c *core) refuse(req *http.Request, q registry.Query, err error) (*http.Response, error) {
	closeBody(req)
	err = failed(q.Service, err)
	if c.observe != nil {
		c.observe(Event{Request: req, Query: q, Service: q.Service, Err: err})
	}
	return nil, err
}

// query returns which instances req may go to.
func (c *core) query(req *http.Request) (registry.Query, error) {
	if c.selectQuery != nil {
		return c.selectQuery(req), nil
	}
	host := req.URL.Host
	if strings.IndexByte(host, ':') >= 0 && req.URL.Port() != "" {
		return registry.Query{Service: req.URL.Hostname()}, fmt.Errorf("%w: Request.URL: port %s has no meaning, the registry has the ports of the instances", registry.ErrInvalid, req.URL.Port())
	}
	return registry.Query{Service: host}, nil
}

// addressed returns req, or a copy of it whose URL has service as its host: net/http takes the Host header, the name for TLS and the pool of
// connections from there.
func addressed(req *http.Request, service string) (*http.Request, error) {
	if req.URL.Host == service {
		return req, nil
	}
	out, u := new(http.Request), *req.URL
	*out = *req
	if out.Host == u.Host {
		out.Host = "" // it was not set apart from the URL
	}
	u.Host = service
	out.URL = &u
	return out, nil
}

// errGone says that a service was let go between finding it and using it.
var errGone = errors.New("the service was let go")

// find returns the service for a query, and begins to watch it if it is new.
func (c *core) find(q registry.Query) (*service, error) {
	var buffer [256]byte
	key := appendKey(buffer[:0], q)
	c.mu.RLock()
	s, closed := c.services[string(key)], c.closed
	c.mu.RUnlock()
	switch {
	case closed:
		return nil, registry.ErrClosed
	case s != nil:
		return s, nil
	}
	if err := q.Validate(); err != nil {
		return nil, err
	}
	configKey, err := choose.ConfigKey(c.configKey, q.Service)
	if err != nil {
		return nil, err
	}
	return c.add(string(key), q, configKey)
}

// appendKey appends a text that is the same for equal queries and differs for others.
func appendKey(b []byte, q registry.Query) []byte {
	const end = 0 // no text of a valid query contains it
	b = append(append(b, q.Service...), end)
	if len(q.Tags) == 0 && len(q.Metadata) == 0 && q.Version == "" && !q.AnyStatus {
		return b
	}
	b = append(append(b, q.Version...), end)
	b = strconv.AppendBool(b, q.AnyStatus)
	tags := q.Tags
	if len(tags) > 1 { // their order and repetitions mean nothing
		tags = slices.Compact(slices.Sorted(slices.Values(tags)))
	}
	for _, tag := range tags {
		b = append(append(b, end), tag...)
	}
	b = append(b, end, end)
	for _, k := range slices.Sorted(maps.Keys(q.Metadata)) {
		b = append(append(b, k...), end)
		b = append(append(b, q.Metadata[k]...), end)
	}
	return b
}

func (c *core) add(key string, q registry.Query, configKey string) (*service, error) {
	c.mu.Lock()
	if s := c.services[key]; s != nil || c.closed {
		c.mu.Unlock()
		if s == nil {
			return nil, registry.ErrClosed
		}
		return s, nil
	}
	surplus, err := c.takeUnknown()
	if err != nil {
		c.mu.Unlock()
		return nil, err
	}
	s := newService(c, q, configKey)
	c.services[key] = s
	if c.sweep == nil {
		c.sweep = time.AfterFunc(c.sweepInterval(), c.letGo)
	}
	if surplus != nil {
		c.closing.Go(surplus.close)
	}
	c.mu.Unlock()
	return s, nil
}

// takeUnknown removes a service if too many services have no instances. It returns an error if too many wait for their first set. c.mu is
// locked.
func (c *core) takeUnknown() (*service, error) {
	if len(c.services) < maxUnknown {
		return nil, nil
	}
	n, pending, oldestKey, oldest := 0, 0, "", (*service)(nil)
	for key, s := range c.services {
		switch {
		case s.picker.Load() == nil:
			pending++
		case !s.hasInstances.Load():
			n++
			if oldest == nil || s.lastUsed.Load() < oldest.lastUsed.Load() {
				oldestKey, oldest = key, s
			}
		}
	}
	if pending >= maxPending {
		return nil, fmt.Errorf("%w: %d services wait for their first answer from the registry, and no more may", registry.ErrUnavailable, pending)
	}
	if n < maxUnknown {
		return nil, nil
	}
	delete(c.services, oldestKey)
	return oldest, nil
}

func (c *core) sweepInterval() time.Duration { return min(c.idleTimeout, unknownTimeout) / 2 }

// letGo lets services go that were not used for long.
func (c *core) letGo() {
	now := load.Clock()
	var unused []*service
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	for key, s := range c.services {
		timeout := c.idleTimeout
		if !s.hasInstances.Load() {
			timeout = min(timeout, unknownTimeout)
		}
		if now-time.Duration(s.lastUsed.Load()) >= timeout {
			delete(c.services, key)
			unused = append(unused, s)
		}
	}
	if len(c.services) > 0 {
		c.sweep.Reset(c.sweepInterval())
	} else {
		c.sweep = nil
	}
	c.closing.Add(1)
	c.mu.Unlock()
	defer c.closing.Done()
	for _, s := range unused {
		s.close()
	}
}

// all returns the services.
func (c *core) all() []*service {
	c.mu.RLock()
	defer c.mu.RUnlock()
	all := make([]*service, 0, len(c.services))
	for _, s := range c.services {
		all = append(all, s)
	}
	return all
}

func (c *core) closeIdleConnections() {
	for _, s := range c.all() {
		s.closeIdleConnections()
	}
}

func (c *core) close() {
	c.mu.Lock()
	c.closed = true
	if c.sweep != nil {
		c.sweep.Stop()
	}
	all := c.services
	c.services = nil
	c.mu.Unlock()
	for _, s := range all {
		s.close()
	}
	c.closing.Wait()
	c.leavingMu.Lock()
	leaving := slices.Collect(maps.Keys(c.leaving))
	c.leavingMu.Unlock()
	for _, n := range leaving {
		n.closeAll()
	}
	c.dials.Wait()
}

// leaves records that n leaves: it may have connections until its requests have ended.
func (c *core) leaves(n *node) {
	c.leavingMu.Lock()
	defer c.leavingMu.Unlock()
	c.leaving[n] = struct{}{}
}

// hasLeft records that n has no connections.
func (c *core) hasLeft(n *node) {
	c.leavingMu.Lock()
	defer c.leavingMu.Unlock()
	delete(c.leaving, n)
}
