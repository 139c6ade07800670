package grpcx

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc/serviceconfig"

	"github.com/rollcall-go/rollcall/grpcx/internal/guard"
	"github.com/rollcall-go/rollcall/internal/choose"
	"github.com/rollcall-go/rollcall/registry"
)

// configSource makes service configs for a channel. Its resolvers share it, one after another.
type configSource struct {
	merge    func(document, wrapper string) (string, error) // nil: the channel gets documents as they are
	document string                                         // for a key that does not exist

	mu   sync.Mutex
	last string // what a resolver has given to the channel; at first what it began with, if that is known
	used bool   // a resolver has given the channel a service config, or may have done so
}

// render returns the service config of the channel for a document.
func (s *configSource) render(document string) (string, error) {
	if s.merge == nil {
		return document, nil
	}
	s.mu.Lock()
	last := s.last
	s.mu.Unlock()
	wrapper := wrapperIn(last)
	if wrapper == "" {
		return s.merge(document, guard.Name)
	}
	text, err := s.merge(document, wrapper)
	if err == nil && policyIn(text) != policyIn(last) {
		return s.merge(document, guard.Other(wrapper))
	}
	return text, err
}

// give notes that the channel is about to get a service config.
func (s *configSource) give(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last, s.used = text, true
}

// policy returns the name of the policy that the channel has, or "" if it is not known.
func (s *configSource) policy() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return policyIn(s.last)
}

// hasGiven reports whether the channel may have another service config than it began with.
func (s *configSource) hasGiven() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}

// serviceConfig is a service config in the form of gRPC.
type serviceConfig struct {
	text   string
	parsed *serviceconfig.ParseResult
}

// valueConfig is the service config that a resolver takes from the registry. The mutex of the resolver guards it.
type valueConfig struct {
	source *configSource
	log    *choose.ConfigLog

	known bool            // value is what the registry said last
	value *registry.Value // nil is a confirmed absence

	sent *serviceConfig // in the last state of the channel; nil if there was none
	next *serviceConfig // for the next state; nil if sent is the newest
}

// followConfig gives the channel the service config in the registry, until ctx ends.
func (r *channelResolver) followConfig(ctx context.Context) {
	w, ok := r.discovery.(choose.ValueWatcher)
	if !ok || r.target.configKey == "" {
		return
	}
	r.config.log = choose.JoinConfigLog(r.target.Logger, r.state.Registry, r.target.Query.Service, r.target.configKey)
	defer r.config.log.Leave()
	choose.FollowValue(ctx, w, r.target.configKey, func(v *registry.Value, err error) time.Duration {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.receiveConfig(v, err)
		return r.takePause()
	})
}

// receiveConfig handles a value and an error of the watch. The value beside an error is the last good one. If the value cannot be used, the
// channel keeps the service config that it has. Locked.
func (r *channelResolver) receiveConfig(v *registry.Value, err error) {
	if v == nil && err != nil && !errors.As(err, new(*registry.StaleError)) {
		return // nothing is known
	}
	c := &r.config
	if c.known && sameValue(c.value, v) {
		return
	}
	c.known, c.value = true, v
	document := c.source.document
	if v != nil {
		document = string(v.Data)
	}
	next, bad := r.parseConfig(document)
	if bad != nil {
		r.meter.count(metricInvalidConfigs)
		c.log.Refused(v, bad)
		return
	}
	c.log.Accepted(v)
	if v == nil && c.sent == nil && !c.source.hasGiven() {
		c.next = nil // the channel still has the service config that it began with
		return
	}
	if c.sent != nil && c.sent.text == next.text {
		c.next = nil
		return
	}
	c.next = next
	r.sendConfig()
}

// parseConfig returns the service config of the channel for a document. gRPC would refuse a state with a service config that it cannot parse.
func (r *channelResolver) parseConfig(document string) (*serviceConfig, error) {
	text, err := r.config.source.render(document)
	if err != nil {
		return nil, err
	}
	parsed := r.cc.ParseServiceConfig(text)
	if parsed == nil || parsed.Err != nil || parsed.Config == nil {
		if parsed == nil || parsed.Err == nil {
			return nil, errors.New("the channel takes no service config")
		}
		return nil, parsed.Err
	}
	return &serviceConfig{text, parsed}, nil
}

// sendConfig gives the channel the next service config with its last state, if it has one. Locked.
func (r *channelResolver) sendConfig() {
	if !r.hasState || !r.mayTakeConfig() {
		return
	}
	if !r.client && r.state.Selector.Guarded && !r.state.InGrace() && r.switchesPolicy() {
		r.state.Selector.Guarded = false // the next policy may not heed restrictions
		r.send(r.state.Again())
		return
	}
	r.send(r.state.Used())
}

// mayTakeConfig reports whether there is another service config for the channel. In a grace period, connections are used and not made again,
// so a new policy, which would have to make its own, waits for the end. Locked.
func (r *channelResolver) mayTakeConfig() bool {
	return r.config.next != nil && !(r.state.InGrace() && r.switchesPolicy())
}

// switchesPolicy reports whether the next service config selects another policy. Locked.
func (r *channelResolver) switchesPolicy() bool {
	return policyIn(r.config.next.text) != r.config.source.policy()
}

// takeConfig returns the service config for a state, which is the newest one if the channel may take it. Locked.
func (r *channelResolver) takeConfig() *serviceconfig.ParseResult {
	c := &r.config
	if r.mayTakeConfig() {
		c.sent, c.next = c.next, nil
		c.source.give(c.sent.text)
		r.shown.SetPolicy(policyIn(c.sent.text))
	}
	if c.sent == nil {
		return nil // the channel keeps the service config that it has
	}
	return c.sent.parsed
}

func sameValue(a, b *registry.Value) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Revision == b.Revision && bytes.Equal(a.Data, b.Data)
}
