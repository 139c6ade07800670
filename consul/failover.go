package consul

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// MetaDatacenter is the key of the metadata that names the datacenter of an instance, where Config.Failover is set. Consul lets
// nobody register a key that begins so.
const MetaDatacenter = "consul-datacenter"

const (
	// failoverGrace is how long a set without instances is withheld while a datacenter has yet to say whether it has some.
	failoverGrace = time.Second
	// A datacenter that fails, or that has nothing again and again, is asked after a pause.
	failoverPause    = 200 * time.Millisecond
	failoverPauseMax = 5 * time.Second
)

// failover is the source of a query that has a datacenter for the worst case, and more for worse ones. Each is read by a source
// and a goroutine of its own, so that one that does not answer holds up none of the others. The first is read all the time,
// the others while it has no passing instance. Nothing in flight is cancelled when it has some again: its answer comes, and
// there is no next read.
type failover struct {
	query   registry.Query
	members []*member

	// ctx ends with Close, which joins the goroutines. It is held here since they outlive each call of Next.
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
	once   sync.Once // starts them

	news chan struct{} // holds a token when a member has something new

	mu       sync.Mutex
	spread   time.Time // since when the others are read; zero while they are not
	returned outcome
	begun    bool // Next has returned
}

// member is one of the datacenters. What is not the goroutine's own is guarded by failover.mu.
type member struct {
	datacenter string // "" is the agent's
	src        *source
	turn       chan bool // holds a token when there may be another read: true for one that starts afresh

	reading bool // a read is in flight, or about to be
	known   bool // set is what there is
	had     bool // there were passing instances when it last answered
	set     []*registry.Instance
	err     error // of the last read
	answers int
}

// outcome is what Next makes of the members.
type outcome struct {
	from    *member // nil where there is an error
	answers int     // of from, or of the member whose error it is
	err     error
}

func newFailover(d *driver, q registry.Query) *failover {
	f := &failover{query: q, news: make(chan struct{}, 1)}
	f.query.AnyStatus = false // an instance that does not pass is no reason to stay
	f.ctx, f.cancel = context.WithCancel(context.Background())
	for _, datacenter := range append([]string{d.settings.Datacenter}, strings.Split(d.settings.Failover, ",")...) {
		there, s := *d, *d.settings
		s.Datacenter = strings.TrimSpace(datacenter)
		there.settings = &s
		src := there.follow(q)
		src.last.decodeEntry = withDatacenter(src.last.decodeEntry)
		f.members = append(f.members, &member{datacenter: s.Datacenter, src: src, turn: make(chan bool, 1)})
	}
	return f
}

// withDatacenter makes decode note where an instance is.
func withDatacenter(decode func([]byte) (*registry.Instance, error)) func([]byte) (*registry.Instance, error) {
	if decode == nil {
		decode = decodeEntry
	}
	return func(raw []byte) (*registry.Instance, error) {
		in, err := decode(raw)
		if err != nil {
			return nil, err
		}
		var e struct{ Node struct{ Datacenter string } }
		if err := json.Unmarshal(raw, &e); err != nil {
			return nil, err
		}
		if in.Metadata == nil {
			in.Metadata = map[string]string{}
		}
		in.Metadata[MetaDatacenter] = e.Node.Datacenter
		return in, nil
	}
}

// Next implements [registry.Source].
func (f *failover) Next(ctx context.Context) ([]*registry.Instance, error) {
	f.once.Do(func() {
		for _, m := range f.members {
			f.work.Go(func() { f.read(m) })
		}
	})
	grace := time.NewTimer(failoverGrace)
	defer grace.Stop()
	for {
		set, wait, ok, err := f.step()
		if ok {
			return set, err
		}
		grace.Reset(wait)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-f.news:
		case <-grace.C:
		}
	}
}

// Close implements [registry.Source].
func (f *failover) Close() error {
	f.cancel()
	f.work.Wait()
	return nil
}

// step looks at the members, and lets those that are needed read on. It reports whether there is something to return, and
// otherwise when to look again at the latest.
func (f *failover) step() (set []*registry.Instance, wait time.Duration, ok bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now, wait, decided := f.choose()
	news := decided && (now.from != f.returned.from || now.answers != f.returned.answers || text(now.err) != text(f.returned.err))
	if news {
		f.returned, f.begun = now, true
		if now.err == nil {
			set = now.from.set
		}
		return set, 0, true, now.err
	}
	f.advance(now.from)
	return nil, wait, false, nil
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// choose returns the outcome, and reports false where it is too early for one. f.mu is held.
func (f *failover) choose() (now outcome, wait time.Duration, decided bool) {
	first := f.members[0]
	switch {
	case first.answers == 0:
		return now, time.Hour, false
	case first.err != nil && first.had:
		// That it cannot be asked does not mean that it has none.
		f.spread = time.Time{}
		return outcome{err: first.err, answers: first.answers}, 0, true
	case first.known && first.had:
		f.spread = time.Time{}
		return outcome{from: first, answers: first.answers}, time.Hour, true
	}
	if f.spread.IsZero() {
		f.spread = time.Now()
		for _, m := range f.members[1:] {
			if !m.reading { // what it had said may have changed since
				m.known, m.err, m.answers = false, nil, 0
			}
		}
	}
	var failed *member
	pending := false
	for _, m := range f.members {
		switch {
		case m.known && m.had:
			return outcome{from: m, answers: m.answers}, time.Hour, true
		case m.err != nil && failed == nil:
			failed = m
		case m.answers == 0:
			pending = true
		}
	}
	if wait := failoverGrace - time.Since(f.spread); pending && wait > 0 {
		return now, wait, false
	}
	switch {
	case failed == first:
		return outcome{err: first.err, answers: first.answers}, time.Hour, true
	case failed != nil:
		return outcome{err: failed.err}, time.Hour, true
	case pending:
		return outcome{err: fmt.Errorf("%w: consul: the first datacenter has no passing instance, and another has not answered yet", registry.ErrUnavailable)}, time.Hour, true
	}
	return outcome{from: first, answers: first.answers}, time.Hour, true
}

// advance lets those members read on that may change the outcome: the first one, and where that has nothing the others up to
// the one in use. Before Next has returned at all, none waits for a change: a lookup ends there, and would leave that behind.
// f.mu is held.
func (f *failover) advance(inUse *member) {
	for i, m := range f.members {
		if !m.reading && (f.begun || !m.known) {
			m.reading = true
			m.turn <- !m.known
		}
		if f.spread.IsZero() || m == inUse && i > 0 {
			return
		}
	}
}

// read reads the set of m whenever it is its turn, until Close.
func (f *failover) read(m *member) {
	failures := 0
	for {
		select {
		case <-f.ctx.Done():
			return
		case afresh := <-m.turn:
			if afresh {
				m.src.index = 0
			}
		}
		set, err := m.src.Next(f.ctx)
		if f.ctx.Err() != nil {
			return
		}
		f.mu.Lock()
		if err == nil {
			m.had = slices.ContainsFunc(set, func(in *registry.Instance) bool { return f.query.Matches(in) })
		}
		// Next returns what the first one fails with when it had instances, and package registry waits then.
		idle := !m.had || err != nil && m != f.members[0]
		m.set, m.err, m.known = set, err, err == nil
		m.answers++
		f.mu.Unlock()
		f.tell()
		if err == nil {
			failures = 0
		}
		if idle && !f.pause(err, failures) {
			return
		}
		failures++
		f.mu.Lock()
		m.reading = false
		f.mu.Unlock()
		f.tell()
	}
}

// pause waits before another read of a datacenter that has nothing. It reports whether the source is still open.
func (f *failover) pause(err error, failures int) bool {
	d := failoverPause
	if err != nil {
		// Full jitter above the least, so that a fleet does not come back at one instant.
		d += rand.N(min(failoverPauseMax, failoverPause<<min(failures, 10)))
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-f.ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func (f *failover) tell() {
	select {
	case f.news <- struct{}{}:
	default:
	}
}

// checkFailover returns an error where the datacenters cannot be used.
func checkFailover(c Config) error {
	if c.Failover == "" {
		return nil
	}
	fail := func(why string) error { return invalid("Failover (failover)", fmt.Sprintf("%q", c.Failover), why) }
	if c.Peer != "" {
		return fail("excludes Peer")
	}
	seen := []string{c.Datacenter}
	for _, name := range strings.Split(c.Failover, ",") {
		name = strings.TrimSpace(name)
		if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == '/' || r == '&' }) {
			return fail("is not a list of datacenters with commas between them")
		}
		if slices.Contains(seen, name) {
			return fail(fmt.Sprintf("names %q twice, or beside Datacenter", name))
		}
		seen = append(seen, name)
	}
	return nil
}
