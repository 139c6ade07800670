package agent

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"
)

// An agent accepts 200 connections from one address (limits.http_max_conns_per_client), which all processes of a host share, and answers
// any other with 429. Without HTTP/2 each call in flight has a connection to itself, so no more calls than these are in flight at once.
// Heartbeats have slots of their own, since late ones lose an instance. They have a limit too: without it, the agent would refuse
// the heartbeats of a thousand instances when it is busy for a moment, and to register the instances again would keep it busier.
const (
	lookups           = 16 // reads that do not wait
	longWatches       = 64 // reads that wait for as long as Config.Wait says
	briefWatches      = 64 // reads that leave their slot to the next after a brief wait, while others queue
	longEntryWatches  = 8  // the same two for entry watches
	briefEntryWatches = 16
	writes            = 8 // of entries of the agent, and the reads that they need
	heartbeats        = 16
	catalogWatches    = 1

	// maxConnections also has one for a probe, and one for the question for the leader, which have no slots.
	maxConnections = lookups + longWatches + briefWatches + longEntryWatches + briefEntryWatches + writes + heartbeats + catalogWatches + 2
)

// How long a read in a brief slot waits while others queue.
const (
	// BriefWait is the wait of a watch. With n watches a change is seen after about (n-64)/64 times that, at the latest, and each of these
	// watches asks as seldom.
	BriefWait = time.Second
	// briefEntryWait is the wait of an entry watch. It is longer, since a heartbeat and the watch of the node also notice that an entry is
	// gone, and since a process with a hundred instances should not ask for them more often than it sends heartbeats.
	briefEntryWait = 5 * time.Second
)

// While no call queues, a read in a brief slot waits for as long as the others, so up to 128 watches cost no more than without slots. A call
// that queues later cannot end such a read. Until the read has ended, the calls in the queue make polls, which are reads that hardly wait:
// as many a second as the slot would have served.
const (
	// calmTime is how long the queue must have been empty.
	calmTime = 10 * time.Second
	// pollWait is how long a poll waits for a change. An agent that has yet to load a view of the service needs some of it.
	pollWait = 100 * time.Millisecond
)

// A refusal (429) halves how many calls may be in flight, at most once in a refusalInterval, since other programs need some of the
// connections. Each calmInterval without a refusal allows one more.
const (
	refusalInterval = time.Second
	calmInterval    = 5 * time.Second
)

// Limiter is the connection limiter: it shares the connections to one agent between all calls. It does not cancel a read to make room for
// another: the agent would keep the connection until the read is over.
type Limiter struct {
	CloseIdle   func() // closes the idle connections of the transport
	WatchQueues func() // called whenever a watch has to queue; may be nil

	mu          sync.Mutex
	multiplexed bool // a connection carries any number of calls
	classes     [classes]classSlots
	adjusted    time.Time // when the limits were last changed
}

// Class is the request class of a call: what the call is for.
type Class int

// The request classes.
const (
	Lookup       Class = iota // a read of a set that does not wait
	Watch                     // a read of a set that waits for a change
	EntryWatch                // a read of an entry of the agent that waits for a change
	Write                     // a write of an entry of the agent, or a read that it needs
	Heartbeat                 // a write of a TTL check
	CatalogWatch              // a read of the catalog that waits for a change
	classes                   // how many there are
)

// classSlots are the slots of a request class. Calls that wait for a change have two kinds: if no slot to wait long is free, they take
// turns with the brief ones.
type classSlots struct{ long, brief slots }

// slots are a number of calls that may be in flight at once.
type slots struct {
	limit, most int
	used        int
	queue       []chan struct{} // each is closed when its call may begin

	// These are of brief slots.
	wait   time.Duration // how long a call waits while others queue
	long   int           // how many are used by calls that may wait long
	queued time.Time     // when a call was in the queue last
}

func newLimiter(closeIdle func()) *Limiter {
	of := func(long, brief int, wait time.Duration) classSlots {
		return classSlots{slots{limit: long, most: long}, slots{limit: brief, most: brief, wait: wait}}
	}
	return &Limiter{CloseIdle: closeIdle, classes: [classes]classSlots{
		Lookup:       of(lookups, 0, 0),
		Watch:        of(longWatches, briefWatches, BriefWait),
		EntryWatch:   of(longEntryWatches, briefEntryWatches, briefEntryWait),
		Write:        of(writes, 0, 0),
		Heartbeat:    of(heartbeats, 0, 0),
		CatalogWatch: of(catalogWatches, 0, 0),
	}}
}

// Slot is the right to make one call. The caller of Acquire releases it.
type Slot struct {
	limiter *Limiter
	slots   *slots
	most    time.Duration // for how long the call may wait for a change; 0 if for as long as it likes
	long    bool          // counts in slots.long
}

// IsBrief reports whether the call must not wait for as long as it likes.
func (s Slot) IsBrief() bool { return s.most > 0 }

// Wait returns how long the call may wait for a change, which is most unless others need the slot.
func (s Slot) Wait(most time.Duration) time.Duration {
	if s.IsBrief() {
		return min(most, s.most)
	}
	return most
}

// Acquire blocks until there is a slot for a call of the class, in the order of the calls of Acquire. It returns the error of ctx if that
// ends first.
func (l *Limiter) Acquire(ctx context.Context, class Class) (Slot, error) {
	l.mu.Lock()
	of := &l.classes[class]
	slot := Slot{limiter: l, slots: &of.long}
	if of.brief.most > 0 && !l.multiplexed && of.long.used >= of.long.limit {
		slot.slots, slot.most = &of.brief, of.brief.wait
	}
	s := slot.slots
	if l.multiplexed || s.used < s.limit && len(s.queue) == 0 {
		s.used++
		if slot.IsBrief() && time.Since(s.queued) >= calmTime {
			slot.most, slot.long = 0, true
			s.long++
		}
		l.mu.Unlock()
		return slot, nil
	}
	free := make(chan struct{})
	s.queue = append(s.queue, free)
	s.queued = time.Now()
	var poll <-chan time.Time
	if s.long > 0 {
		timer := time.NewTimer(s.wait * time.Duration(max(1, len(s.queue)/s.long)))
		defer timer.Stop()
		poll = timer.C
	}
	l.mu.Unlock()
	if class == Watch && l.WatchQueues != nil {
		l.WatchQueues()
	}
	var err error
	select {
	case <-free:
		return slot, nil
	case <-poll:
	case <-ctx.Done():
		err = ctx.Err()
	}
	l.unqueue(s, free)
	if err != nil {
		return Slot{}, err
	}
	slot, err = l.Acquire(ctx, Lookup)
	slot.most = pollWait
	return slot, err
}

// unqueue takes a call out of the queue.
func (l *Limiter) unqueue(s *slots, free chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(s.queue, free); i >= 0 {
		s.queue = slices.Delete(s.queue, i, i+1)
		return
	}
	s.used-- // the slot became free in the same moment
	l.admit(s)
}

// Release frees the slot after a call that ended with that HTTP status, or 0 without an answer, over that version of HTTP.
func (s Slot) Release(status, version int) {
	l := s.limiter
	l.mu.Lock()
	defer l.mu.Unlock()
	s.slots.used--
	if s.long {
		s.slots.long--
	}
	if version > 0 {
		l.multiplexed = version >= 2 // it may change: one proxy may take the place of another
	}
	since := time.Since(l.adjusted)
	switch {
	case l.multiplexed:
	case status == http.StatusTooManyRequests && since >= refusalInterval:
		l.reduce(s.slots)
	case status == http.StatusOK && since >= calmInterval:
		l.adjusted = time.Now()
		for other := range l.all {
			other.limit = min(other.limit+1, other.most)
		}
	}
	for other := range l.all {
		l.admit(other)
	}
}

// reduce halves the limits after the agent has refused a call that had one of refused. l.mu is locked.
func (l *Limiter) reduce(refused *slots) {
	l.adjusted = time.Now()
	for s := range l.all {
		limit := s.limit
		if s.used > 0 || s == refused {
			limit = min(limit, s.used+1)
		}
		s.limit = max(min(1, s.most), limit/2)
	}
	l.CloseIdle() // idle connections count for the agent too
}

// all yields the slots of all classes. l.mu is locked.
func (l *Limiter) all(yield func(*slots) bool) {
	for i := range l.classes {
		if c := &l.classes[i]; !yield(&c.long) || !yield(&c.brief) {
			return
		}
	}
}

// admit lets those calls begin for which there are slots now. l.mu is locked.
func (l *Limiter) admit(s *slots) {
	if len(s.queue) > 0 {
		s.queued = time.Now()
	}
	for len(s.queue) > 0 && (l.multiplexed || s.used < s.limit) {
		s.used++
		close(s.queue[0])
		s.queue = s.queue[1:]
	}
}

// Reduced reports whether refusals of the agent have reduced how many calls of the class may be in flight.
func (l *Limiter) Reduced(class Class) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.classes[class].long
	return s.limit < s.most
}
