package consul

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// source reads the instances of one query.
//
// Consul answers a read that waits for a change, one with an index, with 200 and an empty list in many cases where it does
// not know: see the package comment. What such a read says is therefore believed only where it cannot be wrong, and a read
// without an index decides otherwise, since that one fails where it should.
type source struct {
	d     *driver // its calls go to the agent that was read last, whose index it is
	query registry.Query

	index uint64     // where the next read waits from; 0 where it must not wait
	size  int        // of the last set returned
	last  lastAnswer // read, which need not be the last one returned

	brief     bool      // the last read waited, but was not given the whole of Config.Wait to do so
	confirmed time.Time // when the set was last known to be no stream's memory
	hides     bool      // the last answer would not say that the ACLs have cut it
	lost      bool      // a read failed for want of a registry, or showed one that began again, and none has succeeded since
	vain      int       // how often in a row there was no leader, or nobody to say so, before a read was made
	unready   int       // how often in a row a leader was not ready for a consistent read
}

// A leader that cannot finish taking office answers all but consistent reads, which it keeps for 7 s and refuses with these words.
// After so many of them whatever it says is better than nothing.
const (
	notReady     = "Not ready to serve consistent reads"
	unreadyTries = 3
)

// Next implements [registry.Source].
func (s *source) Next(ctx context.Context) (set []*registry.Instance, err error) {
	err = s.d.anywhere(func(d *driver) error {
		if s.d.agent != d.agent {
			s.d, s.index = d, 0
		}
		if set, err = s.next(ctx); err != nil {
			// The index says nothing about the state of whoever answers next: one that is too high would make it wait for
			// changes that it has long had.
			s.index = 0
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	s.size = len(set)
	return set, nil
}

// Close implements [registry.Source]. The connections are the driver's.
func (s *source) Close() error { return nil }

func (s *source) next(ctx context.Context) ([]*registry.Instance, error) {
	if s.index == 0 {
		if s.lost && s.vain < electionTries && !s.d.settings.Stale { // what may be stale needs no leader
			if err := s.d.elected(ctx, s.what()); err != nil {
				s.vain++
				return nil, err
			}
		}
		s.vain = 0
		return s.fresh(ctx)
	}
	before := s.index
	set, index, err := s.wait(ctx)
	if err != nil {
		return nil, err
	}
	// An index that is missing, garbage, that of a view which is not loaded, or that of a store that began again: the
	// answer is thrown away.
	fell := index <= 1 || index < before
	switch {
	case fell:
	case index == before:
		// The wait has ended without a change. A client agent that serves from its stream says so too when it has lost
		// its servers, so once in a wait it is asked for what it cannot serve from there.
	case len(set) == 0 && s.size > 0:
	default:
		s.index, s.confirmed = index, time.Now()
		return set, nil
	}
	s.lost = fell
	set, err = s.fresh(ctx)
	if err == nil && !fell && s.index < before {
		fell, s.lost = true, true
		set, err = s.fresh(ctx)
	}
	if err == nil && fell && 2*len(set) < s.size {
		// Said once: the next read is believed, by package registry after a while, in which those who are not gone
		// announce themselves again.
		was := s.size
		s.size = len(set)
		return nil, s.d.unavailable(s.what(), fmt.Sprintf("the store began again: its index fell below %d, and there are %d of the %d instances", before, len(set), was))
	}
	return set, err
}

// fresh reads the set without waiting.
func (s *source) fresh(ctx context.Context) ([]*registry.Instance, error) {
	set, index, err := s.read(ctx, 0, s.d.settings.Stale)
	if err == nil && len(set) == 0 && s.d.settings.Stale {
		set, index, err = s.read(ctx, 0, false) // a server that lags behind may not know of the first instance yet
	}
	if err == nil && len(set) == 0 && s.hides {
		if err = s.mayRead(ctx); err == nil {
			set, index, err = s.read(ctx, 0, false) // the right to read may have come in between
		}
	}
	if err != nil {
		return nil, err
	}
	if index <= 1 {
		// Not of Consul's: its own service is in the catalog from the first moment on. And where consul/api cannot read the
		// index, it does not look whether the ACLs have cut the answer either.
		why := fmt.Sprintf("an answer with index %d, which no catalog has", index)
		if peer := s.d.settings.Peer; peer != "" {
			why += fmt.Sprintf(", but one of a peer that does not exist, or exports nothing: %q", peer)
		}
		return nil, s.d.unavailable(s.what(), why)
	}
	s.index, s.confirmed = index, time.Now()
	return set, nil
}

// wait reads the set when it has changed, or when a whole wait has passed, which may take several reads in a crowd.
func (s *source) wait(ctx context.Context) ([]*registry.Instance, uint64, error) {
	for {
		set, index, err := s.read(ctx, s.index, s.d.settings.Stale)
		if err != nil || index != s.index || !s.brief || time.Since(s.confirmed) >= s.d.settings.Wait {
			return set, index, err
		}
	}
}

func (s *source) what() string { return "read service " + s.query.Service }

// read makes one read of the set. With an index it waits until there is a higher one.
func (s *source) read(ctx context.Context, index uint64, stale bool) ([]*registry.Instance, uint64, error) {
	if err := s.d.rate.wait(ctx); err != nil {
		return nil, 0, err
	}
	errand := lookup
	if index > 0 {
		errand = watching
	}
	at, err := s.d.agent.crowd.enter(ctx, errand)
	if err != nil {
		return nil, 0, err
	}
	conf := s.d.settings
	limit, wait := conf.Timeout, at.wait(conf.Wait)
	if index > 0 {
		limit = waitLimit(wait)
	}
	got := capture{body: s.last.spare}
	s.last.spare = nil
	began := time.Now()
	err = s.d.call(ctx, s.what(), limit, func(ctx context.Context) error {
		o := s.d.readOptions(captured(ctx, &got))
		o.AllowStale = stale
		// A server that has just become the leader answers while it still replays its log, with a part of what there is. What is
		// consistent comes after that.
		o.RequireConsistent = o.RequireConsistent || s.lost && !stale && s.unready < unreadyTries
		o.Near = conf.Near
		o.Filter = filter(conf.Filter, s.query)
		if index > 0 {
			o.WaitIndex, o.WaitTime = index, wait
			// This is what makes an agent ask its servers. In its stream it has neither of the two.
			o.MergeCentralConfig = conf.Consistent || conf.MaxStale > 0
		}
		health := s.d.client.Health()
		ask := health.ServiceMultipleTags
		if conf.Connect {
			ask = health.ConnectMultipleTags
		}
		_, _, err := ask(s.query.Service, s.query.Tags, !s.query.AnyStatus, o)
		return err
	})
	at.leave(got.status, got.version)
	// Whoever answers at once what is known already has not waited, and is not to be asked the same again.
	s.brief = at.brief && time.Since(began) >= wait
	// Nothing but a whole answer ends it: a server that replays its log knows of no token either, and refuses them all.
	s.lost = err != nil && (s.lost || got.status == 0 || got.status == http.StatusOK || got.status >= http.StatusInternalServerError)
	if err == nil {
		s.unready = 0
	} else if strings.Contains(err.Error(), notReady) {
		s.unready++
	}
	if err != nil {
		s.last.spare = reusable(got.body)
		return nil, 0, err
	}
	if got.header.Get("X-Consul-Results-Filtered-By-ACLs") == "true" {
		return nil, 0, s.d.filtered(s.what())
	}
	s.hides = s.d.mayHide(got.header)
	if stale && tooOld(got.header, conf.MaxStale) {
		s.last.spare = reusable(got.body)
		return s.read(ctx, 0, false)
	}
	set, err := s.last.update(got.body)
	if err != nil {
		return nil, 0, s.d.unavailable(s.what(), "the answer cannot be read: "+err.Error())
	}
	if index, err = strconv.ParseUint(got.header.Get("X-Consul-Index"), 10, 64); err != nil {
		index = 0 // missing or garbage; no caller believes it
	}
	return s.nearest(set), index, nil
}

// tooOld reports whether an answer is older than bound, which is in force where it is above 0, or does not say.
func tooOld(h http.Header, bound time.Duration) bool {
	if bound == 0 {
		return false
	}
	ms, err := strconv.ParseUint(h.Get("X-Consul-LastContact"), 10, 32)
	return err != nil || time.Duration(ms)*time.Millisecond > bound
}

// nearest cuts set, which is in the order of distance, to the limit. What the query does not select must not count, nor what
// does not pass: a limit is for those that can be used.
func (s *source) nearest(set []*registry.Instance) []*registry.Instance {
	limit := s.d.settings.Limit
	if limit == 0 {
		return set
	}
	cut := make([]*registry.Instance, 0, min(limit, len(set))) // set is the memory of the last answer
	usable := 0
	for _, in := range set {
		if usable == limit {
			break
		}
		if !s.query.Matches(in) {
			continue
		}
		cut = append(cut, in)
		if in.Status == registry.Passing {
			usable++
		}
	}
	return cut
}
