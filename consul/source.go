package consul

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/rollcall-go/rollcall/consul/internal/agent"
	"github.com/rollcall-go/rollcall/consul/internal/codec"
	"github.com/rollcall-go/rollcall/consul/internal/jsondiff"
	"github.com/rollcall-go/rollcall/registry"
)

// source reads the instances of one query.
//
// A read with an index waits for a change. In many cases in which Consul does not know the set, it answers such a read with 200 and an
// empty list: see the package comment. So source accepts such an answer only if it cannot be wrong. Otherwise source confirms it by a read
// without an index, which fails in these cases.
//
// The phases, and what each read without an index (R) or with one (W) leads to:
//
//	           R succeeds                  W: the set changed
//	┌─────────┐ ─────────────▶ ┌──────────┐ ──┐
//	│ reading │                │ watching │   │
//	└─────────┘ ◀───────────── └──────────┘ ◀─┘
//	  │     ▲   W: the wait is over, the set is empty now,       │
//	  │     │      or is refused; another agent is in use        │ W: the index fell, or there
//	  │     │                                                    │    is no answer
//	  │     │ R: half of the instances                           ▼
//	  │     │    are missing since the index fell         ┌────────────┐ ──┐ R fails
//	  │     └──────────────────────────────────────────── │ recovering │   │
//	  └─────────────────────────────────────────────────▶ └────────────┘ ◀─┘
//	    R: there is no answer                                R succeeds: watching
//
// An R that is refused (403, 429, 400) leaves the phase as it is. In two cases, Next makes an R right after a W: in reading, if the answer
// of the W must be confirmed, and in recovering, if the index fell.
//
// A gateway or another store behind the same address can answer an R wrongly too, with an index that is far too high for the right store:
// there, the next W would wait for as long as it may. So while a set is suspect, each W waits briefly. At the right store it ends with an
// index that fell.
type source struct {
	reader
	query registry.Query

	confirmed time.Time // in watching: when an answer was last known not to be a stale one from the agent's stream

	answer jsondiff.Answer // the last read, which need not be the set that Next returned last
	size   size            // of the last set that Next returned
	seen   bool            // there was an instance of the service

	suspectSince time.Time // when the set lost more than half at once; zero if it is not suspect
	goodSize     size      // of the last set before that

	leftOut    []jsondiff.BadEntry // that unreadable was made of
	unreadable []registry.Unreadable
}

// newSource returns a source for q.
func (d *driver) newSource(q registry.Query) *source {
	s := &source{reader: reader{d: d}, query: q}
	if d.settings.Connect {
		s.answer.Decode = codec.DecodeConnect
	}
	if len(d.settings.Failover) > 0 {
		s.answer.Decode = codec.WithDatacenter(s.answer.Decode)
	}
	return s
}

// Next implements [registry.Source].
func (s *source) Next(ctx context.Context) (registry.Set, error) {
	var set []*registry.Instance
	err := s.d.anywhere(ctx, func(d *driver) (err error) {
		return s.at(d, func() error {
			set, err = s.next(ctx)
			return err
		})
	})
	if err != nil {
		return registry.Set{}, err
	}
	s.noteSize(sizeOf(set))
	return registry.Set{Instances: set, Unreadable: s.listUnreadable()}, nil
}

// Close implements [registry.Source]. The connections are the driver's.
func (s *source) Close() error { return nil }

func (s *source) next(ctx context.Context) ([]*registry.Instance, error) {
	switch s.phase {
	case watching:
		return s.watch(ctx)
	case recovering:
		if err := s.awaitLeader(ctx, s.what()); err != nil {
			return nil, err
		}
	}
	return s.readFresh(ctx)
}

// watch waits for a change, and confirms an answer that need not be true.
func (s *source) watch(ctx context.Context) ([]*registry.Instance, error) {
	before := s.index
	r, err := s.await(ctx)
	if err != nil {
		return nil, err
	}
	// An index that is missing, garbage, of a view which is not loaded, or of a store that began again: the answer is thrown away.
	fell := r.index <= 1 || r.index < before
	switch {
	case fell:
		s.phase = recovering
	case r.index == before:
		// The wait is over without a change. A client agent that serves from its stream says so as well if it has lost its servers. So
		// once in a wait it is asked for something that it cannot serve from there.
		s.phase = reading
	case len(r.set) == 0 && s.size.all > 0:
		s.phase = reading
	default:
		if err := s.checkCase(r.set); err != nil {
			return nil, err
		}
		s.watchFrom(r.index)
		return r.set, nil
	}
	return s.confirm(ctx, r, before, fell)
}

// confirm reads the set without waiting. waited is the answer that must be confirmed, to a read that waited for an index above before.
// fell says that the index of this answer is below before, or is no index.
func (s *source) confirm(ctx context.Context, waited result, before uint64, fell bool) ([]*registry.Instance, error) {
	back := s.halfIsBack(waited.set)
	set, err := s.readFresh(ctx)
	if err == nil && !fell && s.index < before {
		back = back || s.halfIsBack(set)
		fell, s.phase = true, recovering
		set, err = s.readFresh(ctx)
	}
	if err == nil && back && !s.halfIsBack(set) {
		set, err = s.readFresh(ctx) // the answers contradict each other, as if two stores gave them in turn
	}
	if err == nil && fell && 2*len(set) < s.size.all {
		// This error comes once. The next read succeeds, and package registry withholds its set for a while, in which the instances
		// that live register again.
		was := s.size.all
		s.noteSize(sizeOf(set))
		return nil, s.d.agent.Unavailable(s.what(), fmt.Sprintf("the store began again: its index fell below %d, and there are %d of the %d instances", before, len(set), was))
	}
	return set, err
}

// watchFrom begins to watch for changes after index, as of which the set was just confirmed.
func (s *source) watchFrom(index uint64) { s.phase, s.index, s.confirmed = watching, index, time.Now() }

// await reads the set when it has changed, or when the whole of mostWait has passed. That may take several reads if there are few connections.
func (s *source) await(ctx context.Context) (result, error) {
	most := s.mostWait()
	for {
		r, err := s.read(ctx, s.index, s.d.settings.Stale)
		if err != nil || r.index != s.index || !r.brief || time.Since(s.confirmed) >= most {
			return r, err
		}
	}
}

// readFresh reads the set without waiting.
func (s *source) readFresh(ctx context.Context) ([]*registry.Instance, error) {
	r, err := s.read(ctx, 0, s.d.settings.Stale)
	if err == nil && len(r.set) == 0 && s.d.settings.Stale {
		r, err = s.read(ctx, 0, false) // a server that lags behind may not know of the first instance yet
	}
	if err == nil && len(r.set) == 0 && r.mayHide {
		if err = s.checkReadable(ctx); err == nil {
			r, err = s.read(ctx, 0, false) // the right to read may have come in between
		}
	}
	if err != nil {
		return nil, err
	}
	if r.index <= 1 {
		// Not an index of Consul: its own service is in the catalog from the first moment on. And if consul/api cannot read the index, it
		// does not look whether the ACLs have cut the answer either.
		why := fmt.Sprintf("an answer with index %d, which no catalog has", r.index)
		if peer := s.d.settings.Peer; peer != "" {
			why += fmt.Sprintf(", but one of a peer that does not exist, or exports nothing: %q", peer)
		}
		return nil, s.d.agent.Unavailable(s.what(), why)
	}
	if err := s.checkCase(r.set); err != nil {
		return nil, err
	}
	if len(r.set) == 0 && s.d.settings.Peer != "" {
		if err := s.checkPeering(ctx); err != nil {
			return nil, err
		}
	}
	s.watchFrom(r.index)
	return r.set, nil
}

// checkCase returns an error if Consul has shown instances of a service whose name differs in case only, and none of the service: Consul
// takes the two for one, and nothing would say why the set is empty.
func (s *source) checkCase(set []*registry.Instance) error {
	if s.seen {
		return nil
	}
	other := ""
	for _, in := range set {
		if in.Service == s.query.Service {
			s.seen = true
			return nil
		}
		other = in.Service
	}
	if !strings.EqualFold(other, s.query.Service) {
		return nil
	}
	return s.d.agent.Unavailable(s.what(), fmt.Sprintf("there is no service %q, but there is %q: case counts", s.query.Service, other))
}

// what names the read in errors, with the datacenter or the peer, if that is not the datacenter of the agent.
func (s *source) what() string {
	what := "read service " + s.query.Service
	switch conf := s.d.settings; {
	case conf.Datacenter != "":
		what += " in datacenter " + conf.Datacenter
	case len(conf.Failover) > 0:
		what += " in the datacenter of the agent"
	case conf.Peer != "":
		what += " of peer " + conf.Peer
	}
	return what
}

// result is what a read found.
type result struct {
	set     []*registry.Instance
	index   uint64 // 0 if it is missing or garbage
	brief   bool   // the read waited, but perhaps not for the whole of mostWait
	mayHide bool   // the ACLs may have cut the set, and Consul would not say so
}

// read makes one read of the set. With an index it waits until there is a higher one.
func (s *source) read(ctx context.Context, index uint64, stale bool) (result, error) {
	class := agent.Lookup
	if index > 0 {
		class = agent.Watch
	}
	slot, err := s.d.agent.Limiter.Acquire(ctx, class)
	if err != nil {
		return result{}, err
	}
	conf := s.d.settings
	limit, wait := conf.Timeout, slot.Wait(s.mostWait())
	if index > 0 {
		limit = waitLimit(wait)
	}
	var set []*registry.Instance
	var header http.Header
	var cut, old bool
	got := agent.Capture{Read: func(ctx context.Context, h http.Header, body io.Reader) (err error) {
		header = h
		cut = h.Get("X-Consul-Results-Filtered-By-ACLs") == "true"
		if old = stale && tooOld(h, conf.MaxStale); cut || old {
			agent.Drain(body)
			return nil
		}
		set, err = s.answer.Update(ctx, body)
		var bad jsondiff.Error
		if errors.As(err, &bad) {
			return agent.Fault(bad)
		}
		return err
	}}
	began := time.Now()
	err = s.d.call(ctx, s.what(), limit, func(ctx context.Context) error {
		o := s.d.readOptions(agent.WithCapture(ctx, &got))
		o.AllowStale = stale
		o.RequireConsistent = o.RequireConsistent || !stale && s.wantsConsistent()
		o.Near = conf.Near
		o.Filter = codec.Filter(conf.Filter, s.query)
		if index > 0 {
			o.WaitIndex, o.WaitTime = index, wait
			// This makes an agent ask its servers: in its stream it has neither of the two.
			o.MergeCentralConfig = conf.Consistent || conf.MaxStale > 0
		}
		health := s.d.agent.Client.Health()
		ask := health.ServiceMultipleTags
		if conf.Connect {
			ask = health.ConnectMultipleTags
		}
		_, _, err := ask(s.query.Service, s.query.Tags, !s.query.AnyStatus, o)
		return err
	})
	slot.Release(got.Status, got.Version)
	s.noteRead(err, got.Status)
	switch {
	case err != nil:
		return result{}, err
	case cut:
		return result{}, s.d.agent.Filtered(s.what())
	case old:
		return s.read(ctx, 0, false)
	}
	r := result{
		set:     s.nearest(set),
		brief:   slot.IsBrief() && time.Since(began) >= wait, // an answer without a change that came early must not be asked for again in the same way
		mayHide: s.d.mayHide(header),
	}
	if r.index, err = strconv.ParseUint(header.Get("X-Consul-Index"), 10, 64); err != nil {
		r.index = 0
	}
	return r, nil
}
