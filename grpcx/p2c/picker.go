package p2c

import (
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/balancer"
)

// picker chooses between two of those that are ready.
type picker struct {
	ready []choice
	decay time.Duration
}

// Pick implements [balancer.Picker].
func (p *picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	winner, loser := p.choose()
	r, err := winner.Picker.Pick(info)
	if err != nil {
		return r, err
	}
	n := winner.node
	if number := n.start(); n.due(number) && unary(info.FullMethodName) {
		now := clock()
		n.plan(number, now)
		loser.node.concede(n, now, p.decay)
		r.Done = p.timed(n, now, r.Done)
	} else {
		r.Done = counted(n, r.Done)
	}
	return r, nil
}

// choose returns the better and the worse of two at random. They are the same where there is only one.
func (p *picker) choose() (better, worse *choice) {
	count := uint64(len(p.ready))
	if count == 1 {
		return &p.ready[0], &p.ready[0]
	}
	r := rand.Uint64()
	i := (r >> 32) * count >> 32
	j := (r & (1<<32 - 1)) * (count - 1) >> 32
	if j >= i {
		j++ // any but i
	}
	a, b := &p.ready[i], &p.ready[j]
	if b.node.before(a.node) {
		return b, a
	}
	return a, b
}

// counted returns what to call at the end of a call whose time is not taken.
func counted(n *node, also func(balancer.DoneInfo)) func(balancer.DoneInfo) {
	if also == nil {
		return n.end
	}
	return func(info balancer.DoneInfo) { n.end(info); also(info) }
}

// timed returns what to call at the end of a call that started at start.
func (p *picker) timed(n *node, start time.Duration, also func(balancer.DoneInfo)) func(balancer.DoneInfo) {
	if also != nil {
		first := p.timed(n, start, nil)
		return func(info balancer.DoneInfo) { first(info); also(info) }
	}
	return func(info balancer.DoneInfo) {
		n.end(info)
		now := clock()
		switch took := now - start; {
		case info.Err != nil:
			n.peak(took, now)
		case info.BytesReceived: // without, the connection was lost before the call began
			n.observe(took, now, p.decay)
		}
	}
}

// epoch is where clock counts from. Reading only the monotonic clock is twice as fast as [time.Now].
var epoch = time.Now()

func clock() time.Duration { return time.Since(epoch) }
