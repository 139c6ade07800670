package consul

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// An agent takes 200 connections from one address (limits.http_max_conns_per_client), which all processes of a host share, and
// answers 429 on any other. Without HTTP/2 each call in flight has a connection to itself, so no more calls than these are in
// flight at once. Heartbeats have places of their own, since late ones lose an instance; but without a bound those of a thousand
// instances are refused when the agent is busy for a moment, and to announce an instance again keeps it busier.
const (
	quickReads = 16 // reads that do not wait
	longReads  = 64 // that wait for as long as Config.Wait says
	shortReads = 64 // that wait for crowdWait, and then leave their place to the next
	longGuards = 8  // as longReads and shortReads, of those that guard an entry of the agent
	guards     = 16
	writes     = 8 // of entries of the agent, and what is read for them
	heartbeats = 16

	// With a probe, and who asks for the leader: nobody's errands.
	crowdMost = quickReads + longReads + shortReads + longGuards + guards + writes + heartbeats + 2
)

// crowdWait is how long a read waits that others queue behind. With n watches a change is seen after about
// (n-longReads)/shortReads times that, at the latest, and each of those watches asks as seldom. The same goes for n entries and
// their guards, but that an entry which is gone is missed by its next heartbeat.
const crowdWait = time.Second

// A connection that the agent refuses halves how many calls may be in flight, no more than once in crowdRefused, since others
// need some of the connections too. Each crowdCalm without a refusal allows one more.
const (
	crowdRefused = time.Second
	crowdCalm    = 5 * time.Second
)

// crowd shares the connections to one agent between all calls. No read is cancelled to make room for another: the agent would go
// on waiting for it.
type crowd struct {
	closeIdle func() // of the transport

	mu          sync.Mutex
	multiplexed bool // a connection carries any number of calls
	lanes       [errands]lanes
	adjusted    time.Time // when the limits were changed last
}

// errand is what a call is for.
type errand int

const (
	lookup errand = iota // reads a set at once
	watching
	guarding
	writing
	beating
	errands // how many there are
)

// lanes are those of one errand. Calls that wait for a change have two: where there is no place left for long, they take turns.
type lanes struct{ first, brief lane }

// lane is a number of calls that may be in flight at once.
type lane struct {
	limit, most int
	used        int
	queue       []chan struct{} // closed when it is one's turn
}

func newCrowd(closeIdle func()) *crowd {
	of := func(first, brief int) lanes {
		return lanes{lane{limit: first, most: first}, lane{limit: brief, most: brief}}
	}
	return &crowd{closeIdle: closeIdle, lanes: [errands]lanes{
		lookup: of(quickReads, 0), watching: of(longReads, shortReads), guarding: of(longGuards, guards), writing: of(writes, 0),
		beating: of(heartbeats, 0),
	}}
}

// place is one that a call has. The zero value is none.
type place struct {
	crowd *crowd
	lane  *lane
	brief bool // the call must not wait for longer than crowdWait
}

// wait is how long the call may wait for a change, which otherwise is most.
func (p place) wait(most time.Duration) time.Duration {
	if p.brief {
		return min(most, crowdWait)
	}
	return most
}

// enter blocks until there is a place for a call, in the order of those who ask.
func (c *crowd) enter(ctx context.Context, to errand) (place, error) {
	c.mu.Lock()
	of := &c.lanes[to]
	p := place{crowd: c, lane: &of.first}
	if of.brief.most > 0 && !c.multiplexed && of.first.used >= of.first.limit {
		p.lane, p.brief = &of.brief, true
	}
	l := p.lane
	if c.multiplexed || l.used < l.limit && len(l.queue) == 0 {
		l.used++
		c.mu.Unlock()
		return p, nil
	}
	turn := make(chan struct{})
	l.queue = append(l.queue, turn)
	c.mu.Unlock()
	select {
	case <-turn:
		return p, nil
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, other := range l.queue {
		if other == turn {
			l.queue = append(l.queue[:i], l.queue[i+1:]...)
			return place{}, ctx.Err()
		}
	}
	l.used-- // it was its turn in the same moment
	c.admit(l)
	return place{}, ctx.Err()
}

// leave gives the place back after a call that has ended with code, the status of an answer or 0, over HTTP of that version.
func (p place) leave(code, version int) {
	c := p.crowd
	c.mu.Lock()
	defer c.mu.Unlock()
	p.lane.used--
	if version > 0 {
		c.multiplexed = version >= 2 // a proxy that takes the place of another may not be
	}
	since := time.Since(c.adjusted)
	switch {
	case c.multiplexed:
	case code == http.StatusTooManyRequests && since >= crowdRefused:
		c.adjusted = time.Now()
		for l := range c.each {
			limit := l.limit
			if l.used > 0 || l == p.lane {
				limit = min(limit, l.used+1)
			}
			l.limit = max(min(1, l.most), limit/2)
		}
		c.closeIdle() // they count too
	case code == http.StatusOK && since >= crowdCalm:
		c.adjusted = time.Now()
		for l := range c.each {
			l.limit = min(l.limit+1, l.most)
		}
	}
	for l := range c.each {
		c.admit(l)
	}
}

// each yields all lanes. c.mu is held.
func (c *crowd) each(yield func(*lane) bool) {
	for i := range c.lanes {
		if l := &c.lanes[i]; !yield(&l.first) || !yield(&l.brief) {
			return
		}
	}
}

// admit lets those in whose turn it is. c.mu is held.
func (c *crowd) admit(l *lane) {
	for len(l.queue) > 0 && (c.multiplexed || l.used < l.limit) {
		l.used++
		close(l.queue[0])
		l.queue = l.queue[1:]
	}
}
