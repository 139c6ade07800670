package p2c

import (
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/balancer"

	"github.com/rollcall-go/rollcall/internal/load"
)

// picker picks one of two random ready nodes.
type picker struct {
	ready []readyNode
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
	if number := n.Start(); n.Due(number) && unary(info.FullMethodName) {
		now := load.Clock()
		n.Plan(number, now)
		loser.node.Concede(&n.Node, now, p.decay)
		r.Done = timed(n, loser.node, now, r.Done)
	} else {
		r.Done = counted(n, r.Done)
	}
	return r, nil
}

// choose returns two random nodes. The winner is likely to answer sooner. If there is only one node, choose returns it twice.
func (p *picker) choose() (winner, loser *readyNode) {
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
	if b.node.Before(&a.node.Node) {
		return b, a
	}
	return a, b
}

// counted returns the function for the end of a call that is not measured.
func counted(n *node, also func(balancer.DoneInfo)) func(balancer.DoneInfo) {
	if also == nil {
		return n.end
	}
	return func(info balancer.DoneInfo) { n.end(info); also(info) }
}

// timed returns the function for the end of a measured call, which went to n and not to other.
func timed(n, other *node, start time.Duration, also func(balancer.DoneInfo)) func(balancer.DoneInfo) {
	if also != nil {
		first := timed(n, other, start, nil)
		return func(info balancer.DoneInfo) { first(info); also(info) }
	}
	return func(info balancer.DoneInfo) {
		n.end(info)
		now := load.Clock()
		switch took := now - start; {
		case info.Err != nil && verdict(info) == load.AtFault: // counts as an answer that took at least as long as the answers of other
			n.Peak(max(took, other.Latency()), now)
		case info.Err != nil:
			n.Peak(took, now)
		case info.BytesReceived: // otherwise the connection was lost before the call began
			n.Observe(took, now, time.Duration(n.decay.Load()))
		}
	}
}
