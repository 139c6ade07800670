package registry

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rollcall-go/rollcall/internal/oneline"
	"github.com/rollcall-go/rollcall/internal/sleep"
)

// Failover returns a driver over several stores, such as the datacenters of one company, of which the first is the nearest. It
// registers in the first, lists the services of the first, and finds instances in the first store that has a passing one. It owns
// drivers: its Close closes them. Failover panics without a driver.
//
// What a watch or a lookup returns:
//
//   - If the first store has a passing instance: its set. The other stores are not read.
//   - If the first store fails, and had a passing instance before: the error, beside the last good set. A store that cannot be asked
//     may still have its instances.
//   - If the first store has no passing instance, or fails and never had one: the set of the first other store that has one, as soon
//     as that store has answered, whether or not the stores before it have. The first store is still read, and its set is returned
//     as soon as it has a passing instance again.
//   - If no store has a passing instance: the set of the first store. But while another store fails, or has not answered for a
//     second, an error says that it may have some.
//
// The grace period of [Options.OutageGrace] applies if the other store has less than half as many instances.
func Failover(drivers ...Driver) Driver {
	if len(drivers) == 0 {
		panic("registry: Failover needs at least one driver")
	}
	return &failover{Driver: drivers[0], all: drivers}
}

// failover passes what it does not define on to the first driver.
type failover struct {
	Driver
	all []Driver
}

// Properties implements [Driver]. It returns the address of the first store.
func (d *failover) Properties() Properties {
	p := d.Driver.Properties()
	names := []string{p.Name}
	subscriptions := []func(report func(error)){p.Subscribe}
	for _, other := range d.all[1:] {
		o := other.Properties()
		names = append(names, o.Name)
		subscriptions = append(subscriptions, o.Subscribe)
		p.Pushes = p.Pushes && o.Pushes
	}
	p.Name = strings.Join(names, ", ")
	p.Subscribe = func(report func(error)) {
		for _, subscribe := range subscriptions {
			if subscribe != nil {
				subscribe(report)
			}
		}
	}
	return p
}

// Close implements [Driver].
func (d *failover) Close() error {
	var errs []error
	for _, driver := range d.all {
		errs = append(errs, driver.Close())
	}
	return oneline.Join(errs...)
}

// Watch implements [Driver].
func (d *failover) Watch(q Query) Source {
	f := &failoverSource{query: q, news: make(chan struct{}, 1)}
	f.query.AnyStatus = false // an instance that does not pass is no reason to stay with a store
	f.ctx, f.cancel = context.WithCancel(context.Background())
	for _, driver := range d.all {
		f.stores = append(f.stores, &failoverStore{
			name: driver.Properties().Name, open: func() Source { return driver.Watch(q) }, mayRead: make(chan struct{}, 1),
		})
	}
	return f
}

const (
	// failoverTimeout is how long an answer without a passing instance waits for the stores that have not answered yet. Without it, a
	// store that does not answer would delay every answer until its driver gives up.
	failoverTimeout = time.Second
	// failoverPause is the pause before a store without a passing instance is read again. After a failure the pauses grow to
	// failoverPauseMax. The pauses of Registry do not help here, because Next does not return after such a read.
	failoverPause    = 200 * time.Millisecond
	failoverPauseMax = 5 * time.Second
	// maxFailoverDepartures bounds the departures that are remembered while Next returns errors.
	maxFailoverDepartures = 1000
)

// failoverSource reads each store in a goroutine of its own, so that a store that does not answer delays no other. The first store is
// always read, and the others while the first store has no passing instance. When the first store has a passing instance again, a read in
// flight at another store is left to end. No further read of that store follows.
type failoverSource struct {
	query  Query // selects the passing instances: a store that has one can be used
	stores []*failoverStore

	// ctx ends with Close, which joins the goroutines. It is a field because they outlive each call of Next.
	ctx     context.Context
	cancel  context.CancelFunc
	reading sync.WaitGroup
	start   sync.Once

	news chan struct{} // has a token if a store has something new

	mu          sync.Mutex
	othersSince time.Time // when the other stores began to be read; zero while only the first store is read
	returned    choice    // the choice that Next returned last
	begun       bool      // Next has returned once
	departed    []string  // IDs of the departures since the last set that Next returned
	limit       *rateLimit
	paid        bool // Registry has waited for the rate limit on behalf of the next read
}

// failoverStore is one store. The fields below mayRead are guarded by failoverSource.mu.
type failoverStore struct {
	name    string
	open    func() Source
	mayRead chan struct{} // has a token if the goroutine may make another read

	busy       bool // a read is in flight or about to be
	afresh     bool // the next read must not wait for a change
	known      bool // set is the answer to the last read
	hasPassing bool // the last answer had a passing instance
	set        Set
	err        error // error of the last read
	reads      int   // number of reads since the store was last needed
}

// choice is the result of Next, chosen from the answers of all stores.
type choice struct {
	from  *failoverStore // the store whose set is returned; nil if there is an error
	reads int            // the reads of from, or of the store that failed
	err   error
}

// Next implements [Source].
func (f *failoverSource) Next(ctx context.Context) (Set, error) {
	f.begin(ctx)
	timer := time.NewTimer(failoverTimeout)
	defer timer.Stop()
	for {
		set, wait, ok, err := f.step()
		if ok {
			return set, err
		}
		var timeout <-chan time.Time
		if wait > 0 {
			timer.Reset(wait)
			timeout = timer.C
		}
		select {
		case <-ctx.Done():
			return Set{}, ctx.Err()
		case <-f.news:
		case <-timeout:
		}
	}
}

func (f *failoverSource) begin(ctx context.Context) {
	f.start.Do(func() {
		for _, s := range f.stores {
			f.reading.Go(func() { f.read(s) })
		}
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	f.limit, _ = ctx.Value(rateLimitKey{}).(*rateLimit)
	f.paid = true
}

// Close implements [Source].
func (f *failoverSource) Close() error {
	f.cancel()
	f.reading.Wait()
	return nil
}

// step returns the result of Next, if that is news. Otherwise it allows further reads, and returns the longest time to wait for them, or 0
// if there is no limit.
func (f *failoverSource) step() (set Set, wait time.Duration, ok bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now, wait, ok := f.choose()
	if !ok || now.equal(f.returned) {
		f.allowReads(now.from)
		return Set{}, wait, false, nil
	}
	f.returned, f.begun = now, true
	if now.err != nil {
		return Set{}, 0, true, now.err
	}
	set = Set{Instances: now.from.set.Instances, Unreadable: now.from.set.Unreadable, Departed: f.departed}
	f.departed = nil
	return set, 0, true, nil
}

func (c choice) equal(other choice) bool {
	return c.from == other.from && c.reads == other.reads && errorText(c.err) == errorText(other.err)
}

// choose returns the choice. If it is too early for a choice, it returns false, and the longest time to wait, or 0 if there is no limit.
// f.mu is locked.
func (f *failoverSource) choose() (now choice, wait time.Duration, ok bool) {
	first := f.stores[0]
	switch {
	case first.reads == 0:
		return choice{}, 0, false
	case first.hasPassing:
		f.othersSince = time.Time{}
		if first.err != nil {
			return choice{reads: first.reads, err: first.err}, 0, true
		}
		return choice{from: first, reads: first.reads}, 0, true
	}
	if f.othersSince.IsZero() {
		f.needOthers()
	}
	var failed, unanswered *failoverStore
	for _, s := range f.stores {
		switch {
		case s.known && s.hasPassing:
			return choice{from: s, reads: s.reads}, 0, true
		case s.err != nil && failed == nil:
			failed = s
		case s.reads == 0 && unanswered == nil:
			unanswered = s
		}
	}
	if wait := failoverTimeout - time.Since(f.othersSince); unanswered != nil && wait > 0 {
		return choice{}, wait, false
	}
	switch {
	case failed == first:
		return choice{reads: first.reads, err: first.err}, 0, true
	case failed != nil:
		return choice{err: failed.err}, 0, true
	case unanswered != nil:
		return choice{err: fmt.Errorf("%w: %s has no passing instance, and %s has not answered yet", ErrUnavailable, first.name, unanswered.name)}, 0, true
	}
	return choice{from: first, reads: first.reads}, 0, true
}

// needOthers begins to read the other stores. It drops their earlier answers, which may be out of date. f.mu is locked.
func (f *failoverSource) needOthers() {
	f.othersSince = time.Now()
	for _, s := range f.stores[1:] {
		if !s.busy {
			s.known, s.err, s.reads, s.afresh = false, nil, 0, true
		}
	}
}

// allowReads allows another read of each store that may change the choice: the first store and, while that has no passing instance, the
// other stores up to the store in use. Until Next has returned once, no blocking read is started: a Lookup closes the source after its
// first answer, and a blocking read would stay open at the store. f.mu is locked.
func (f *failoverSource) allowReads(inUse *failoverStore) {
	for i, s := range f.stores {
		if !s.busy && (f.begun || !s.known) {
			s.busy = true
			s.mayRead <- struct{}{}
		}
		if f.othersSince.IsZero() || s == inUse && i > 0 {
			return
		}
	}
}

// read reads s whenever it may, until Close.
func (f *failoverSource) read(s *failoverStore) {
	src := s.open()
	defer func() { src.Close() }()
	retry := backoff{min: failoverPause, max: failoverPauseMax}
	for {
		select {
		case <-f.ctx.Done():
			return
		case <-s.mayRead:
		}
		if f.isAfresh(s) {
			src.Close()
			src = s.open()
		}
		set, err := f.readOnce(src)
		if f.ctx.Err() != nil {
			return
		}
		pause := f.note(s, set, err)
		if err == nil {
			retry.failures = 0
		}
		switch {
		case !pause:
		case err != nil && !retry.wait(f.ctx), err == nil && !sleep.For(f.ctx, failoverPause):
			return
		}
		f.mu.Lock()
		s.busy = false
		f.mu.Unlock()
		f.tell()
	}
}

func (f *failoverSource) isAfresh(s *failoverStore) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	afresh := s.afresh
	s.afresh = false
	return afresh
}

// readOnce makes one read. A Next may make several reads, and Registry has waited for the rate limit for the first of them only.
func (f *failoverSource) readOnce(src Source) (Set, error) {
	f.mu.Lock()
	limit, paid := f.limit, f.paid
	f.paid = false
	f.mu.Unlock()
	if !paid {
		if err := limit.wait(f.ctx); err != nil {
			return Set{}, err
		}
	}
	return src.Next(f.ctx)
}

// note records the result of a read of s. It reports whether a pause must come before the next read.
func (f *failoverSource) note(s *failoverStore, set Set, err error) (pause bool) {
	f.mu.Lock()
	if err == nil {
		s.hasPassing = slices.ContainsFunc(set.Instances, f.query.Matches)
		f.departed = append(f.departed, set.Departed...)
		f.departed = f.departed[max(0, len(f.departed)-maxFailoverDepartures):]
	}
	s.set, s.err, s.known = set, err, err == nil
	s.reads++
	// If the first store fails although it had a passing instance, Next returns the error, and Registry pauses.
	pause = !s.hasPassing || err != nil && s != f.stores[0]
	f.mu.Unlock()
	f.tell()
	return pause
}

func (f *failoverSource) tell() {
	select {
	case f.news <- struct{}{}:
	default:
	}
}
