package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rollcall-go/rollcall/internal/sleep"
	"github.com/rollcall-go/rollcall/registry"
)

const (
	throwawayPrefix = "rollcall-doctor-"
	// throwawayAddress is of the documentation range (RFC 5737): nothing listens there.
	throwawayAddress = "192.0.2.1:9"
	cleanupTimeout   = 5 * time.Second
)

// checkWrite registers a throwaway service, and finds out whether everything that the library promises of it comes true. It takes at
// most half of the time of all checks, so that the checks after it are made as well.
func (d *doctor) checkWrite(ctx context.Context) finding {
	if d.f.noWrite {
		return skipped("left out by --no-write")
	}
	writer, err := d.target.open()
	if err != nil {
		return failed(adviseWrite, "%s", trimPrefix(err))
	}
	defer writer.Close()
	reader, err := d.target.open()
	if err != nil {
		return failed(adviseWrite, "%s", trimPrefix(err))
	}
	defer reader.Close()
	ctx, cancel := context.WithTimeout(ctx, d.f.timeout/2)
	defer cancel()
	p := newWriteProbe(writer, reader, d.target.remove)
	err = p.run(ctx)
	if err == nil {
		return passed("%s", strings.Join(p.facts, ", "))
	}
	return d.writeFinding(ctx, p, err, d.cleanUp(context.WithoutCancel(ctx), p))
}

// remains is what a write check has left in the registry.
type remains struct {
	entries []string // none: nothing is left
	how     string   // a command that removes the first entry
	unknown error    // why that could not be found out
	swept   bool     // the doctor had to remove the entry from Consul's catalog itself
}

// cleanUp removes what p has left, and looks whether it is gone.
func (d *doctor) cleanUp(ctx context.Context, p *writeProbe) remains {
	err := cmp.Or(p.end(ctx), p.writer.Close()) // Close removes what an attempt without an answer may have left
	ctx, cancel := context.WithTimeout(ctx, cleanupTimeout)
	defer cancel()
	var r remains
	if d.target.sweep != nil {
		r = d.target.sweep(ctx, p.service)
	} else {
		var set []*registry.Instance
		set, r.unknown = p.reader.Lookup(ctx, registry.Query{Service: p.service, AnyStatus: true})
		for _, in := range set {
			r.entries = append(r.entries, in.Service+"/"+in.ID)
		}
	}
	if r.unknown != nil {
		r.unknown = cmp.Or(err, r.unknown)
	}
	return r
}

// writeFinding says how far the probe came. err is what ended it.
func (d *doctor) writeFinding(ctx context.Context, p *writeProbe, err error, left remains) finding {
	texts := slices.Clone(p.facts)
	advise := adviseWrite
	if ctx.Err() != nil {
		advise = adviseNotSeen
		if d.aclsOn && p.step.needsCatalog {
			advise = adviseAgentToken
		}
		texts = append(texts, fmt.Sprintf("%s was not %s in time", p.service, p.step.name))
		if watch := p.watchError(); watch != nil {
			texts = append(texts, trimPrefix(watch))
		}
	} else {
		texts = append(texts, trimPrefix(err))
	}
	interrupted, denied := errors.Is(ctx.Err(), context.Canceled), errors.Is(err, registry.ErrDenied)
	if left.unknown != nil && denied && p.registration == nil {
		left.unknown = nil // nothing was written
	}
	isLeft := true
	switch how := d.target.howToRemove(p.service, p.id); {
	case left.unknown != nil:
		advise = adviseLookForEntry.with(p.service, how)
		texts = append(texts, fmt.Sprintf("%s/%s may be left: %s", p.service, p.id, trimPrefix(left.unknown)))
	case len(left.entries) > 0:
		advise = adviseLeftEntry.with(cmp.Or(left.how, how))
		texts = append(texts, "left in the registry: "+strings.Join(left.entries, ", "))
	case left.swept:
		isLeft = false
		texts = append(texts, "the agent did not remove it from the catalog, doctor did, and nothing is left in the registry")
	default:
		isLeft = false
		texts = append(texts, "nothing is left in the registry")
	}
	text := strings.Join(texts, "; ")
	switch {
	case isLeft:
	case interrupted:
		return skipped("interrupted: %s", text)
	case errors.Is(err, registry.ErrUnsupported):
		return skipped("%s", text)
	case denied && d.f.service != "":
		return warned(adviseThrowaway.with(d.f.service), "%s", text)
	}
	f := failed(advise, "%s", text)
	f.left = isLeft
	return f
}

// writeStep is a part of the write check.
type writeStep struct {
	name         string
	needsCatalog bool // the agent of Consul must write to the catalog, which takes a token of its own if ACLs are on
}

// writeProbe is one throwaway registration, and a watch of it in another Registry.
type writeProbe struct {
	writer, reader *registry.Registry
	remove         func(ctx context.Context, service, id string) error
	service, id    string

	registration registry.Registration
	step         writeStep // what is waited for
	facts        []string  // what has come true

	mu      sync.Mutex
	changed chan struct{} // closed when one of the next three changes
	seen    bool          // the watch has the instance
	losses  uint64        // of the registration that were repaired
	failing error         // of the watch
}

func newWriteProbe(writer, reader *registry.Registry, remove func(ctx context.Context, service, id string) error) *writeProbe {
	service := throwawayPrefix + strings.ToLower(rand.Text()[:8])
	return &writeProbe{writer: writer, reader: reader, remove: remove, service: service, id: service + "-1", changed: make(chan struct{})}
}

// run makes the steps one after another.
func (p *writeProbe) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel()
	watching.Go(func() { p.watch(ctx) })
	defer p.writer.Observe(func(e registry.Event) {
		if e.Kind == registry.Reregistered {
			p.change(func() { p.losses++ })
		}
	})()

	if err := p.register(ctx); err != nil {
		return err
	}
	if p.remove != nil {
		if err := p.lose(ctx); err != nil {
			return err
		}
	}
	began := time.Now()
	p.step = writeStep{name: "deregistered"}
	if err := p.registration.Deregister(ctx); err != nil {
		return err
	}
	p.registration = nil
	p.step = writeStep{name: "gone from a second watch", needsCatalog: true}
	if err := p.await(ctx, func() bool { return !p.seen }); err != nil {
		return err
	}
	p.fact("gone %s after deregistering", brief(time.Since(began)))
	return nil
}

func (p *writeProbe) fact(format string, args ...any) {
	p.facts = append(p.facts, fmt.Sprintf(format, args...))
}

// register registers the instance, and waits until the watch has it.
func (p *writeProbe) register(ctx context.Context) error {
	began := time.Now()
	p.step = writeStep{name: "registered"}
	// A write that was sent cannot be taken back. If ctx ends before its answer, the registry might carry it out after it was removed.
	writing, cancel := graceAfter(ctx, writeGrace)
	defer cancel()
	r, err := p.writer.Register(writing, registry.Instance{
		Service: p.service, ID: p.id, Address: throwawayAddress, Metadata: map[string]string{"purpose": "rollcall doctor"},
	})
	if err != nil {
		return err
	}
	p.registration = r
	p.fact("registered in %s", brief(time.Since(began)))
	if ctx.Err() != nil {
		return ctx.Err()
	}
	p.step = writeStep{name: "seen by a second watch", needsCatalog: true}
	if err := p.await(ctx, func() bool { return p.seen }); err != nil {
		return err
	}
	p.fact("seen by a second watch after %s", brief(time.Since(began)))
	return nil
}

// writeGrace is how long an interrupted registration may still succeed, to be removed in order.
const writeGrace = 2 * time.Second

// graceAfter returns a context that ends a while after ctx.
func graceAfter(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	later, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		sleep.For(later, grace)
		cancel()
	})
	return later, func() {
		stop()
		cancel()
	}
}

// lose removes the entry behind the back of its registration, and waits until it is back.
func (p *writeProbe) lose(ctx context.Context) error {
	began := time.Now()
	p.step = writeStep{name: "removed from the registry"}
	if err := p.remove(ctx, p.service, p.id); err != nil {
		return fmt.Errorf("removing it without the registration: %w", err)
	}
	p.step = writeStep{name: "registered again"}
	writing, cancel := graceAfter(ctx, writeGrace)
	defer cancel()
	if err := p.await(writing, func() bool { return p.losses > 0 }); err != nil {
		return err
	}
	p.step = writeStep{name: "seen again by a second watch", needsCatalog: true}
	if err := p.await(ctx, func() bool { return p.seen }); err != nil {
		return err
	}
	p.fact("back %s after it was removed without its knowledge", brief(time.Since(began)))
	return nil
}

// end deregisters the instance if that is still to be done. It does not depend on what ended run.
func (p *writeProbe) end(ctx context.Context) error {
	if p.registration == nil {
		return nil // Close of the Registry removes what an attempt may have left
	}
	ctx, cancel := context.WithTimeout(ctx, cleanupTimeout)
	defer cancel()
	return p.registration.Deregister(ctx)
}

// watch keeps seen current until ctx ends.
func (p *writeProbe) watch(ctx context.Context) {
	for set, err := range p.reader.Watch(ctx, registry.Query{Service: p.service, AnyStatus: true}) {
		if err != nil {
			p.change(func() { p.failing = err })
			continue
		}
		there := false
		for _, in := range set {
			there = there || in.ID == p.id
		}
		p.change(func() { p.seen, p.failing = there, nil })
	}
}

// watchError returns why the watch does not know the set.
func (p *writeProbe) watchError() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failing
}

func (p *writeProbe) change(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	close(p.changed)
	p.changed = make(chan struct{})
}

// await blocks until ok returns true, which it calls with the lock.
func (p *writeProbe) await(ctx context.Context, ok func() bool) error {
	for {
		p.mu.Lock()
		done, changed := ok(), p.changed
		p.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
