package consul

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// An agent takes 200 connections from one address (limits.http_max_conns_per_client), which all processes of a host share, and
// answers 429 on any other. Without HTTP/2 each read in flight has a connection to itself, so no more reads than these are in
// flight at once.
const (
	quickReads = 32 // that do not wait
	longReads  = 64 // that wait for as long as Config.Wait says
	shortReads = 64 // that wait for crowdWait, and then leave their place to the next
)

// crowdWait is how long a read waits that others queue behind. With n watches a change is seen after about
// (n-longReads)/shortReads times that, at the latest, and each of those watches asks as seldom.
const crowdWait = time.Second

// A connection that the agent refuses halves how many reads may be in flight, no more than once in crowdRefused, since others
// need some of the connections too. Each crowdCalm without a refusal allows one more.
const (
	crowdRefused = time.Second
	crowdCalm    = 5 * time.Second
)

// crowd shares the connections to one agent between the reads of all watches. None is cancelled to make room for another:
// the agent would go on waiting for it.
type crowd struct {
	closeIdle func() // of the transport

	mu                 sync.Mutex
	multiplexed        bool // a connection carries any number of reads
	quick, long, short lane
	adjusted           time.Time // when the limits were changed last
}

// lane is a number of reads that may be in flight at once.
type lane struct {
	limit, most int
	used        int
	queue       []chan struct{} // closed when it is one's turn
}

func newCrowd(closeIdle func()) *crowd {
	of := func(n int) lane { return lane{limit: n, most: n} }
	return &crowd{closeIdle: closeIdle, quick: of(quickReads), long: of(longReads), short: of(shortReads)}
}

// place is one that a read has. The zero value is none.
type place struct {
	crowd *crowd
	lane  *lane
	brief bool // the read must not wait for longer than crowdWait
}

// enter blocks until there is a place for a read, in the order of those who ask.
func (c *crowd) enter(ctx context.Context, waits bool) (place, error) {
	c.mu.Lock()
	p := place{crowd: c, lane: &c.quick}
	if waits {
		p.lane = &c.long
		if !c.multiplexed && c.long.used >= c.long.limit {
			p.lane, p.brief = &c.short, true
		}
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

// leave gives the place back after a read that has ended with code, the status of an answer or 0, over HTTP of that version.
func (p place) leave(code, version int) {
	c := p.crowd
	c.mu.Lock()
	defer c.mu.Unlock()
	p.lane.used--
	lanes := []*lane{&c.quick, &c.long, &c.short}
	since := time.Since(c.adjusted)
	switch {
	case version >= 2:
		c.multiplexed = true
	case code == http.StatusTooManyRequests && since >= crowdRefused:
		c.adjusted = time.Now()
		for _, l := range lanes {
			l.limit = max(1, min(l.limit, l.used+1)/2)
		}
		c.closeIdle() // they count too
	case code == http.StatusOK && since >= crowdCalm:
		c.adjusted = time.Now()
		for _, l := range lanes {
			l.limit = min(l.limit+1, l.most)
		}
	}
	for _, l := range lanes {
		c.admit(l)
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
