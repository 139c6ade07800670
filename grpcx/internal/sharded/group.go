package sharded

import (
	"sync/atomic"

	"google.golang.org/grpc/balancer"

	"github.com/rollcall-go/rollcall/internal/schedule"
)

// Group picks among ready children by their weights. It is safe for concurrent use.
type Group struct {
	schedule *schedule.Schedule
	pickers  []balancer.Picker
	// order has the pickers in the order of the schedule if that is a short cycle. It saves one step for each pick.
	order []balancer.Picker
}

// longestOrder bounds the memory of an order to 64 KiB.
const longestOrder = 1 << 12

// NewGroup returns the group of the ready children, or nil if none is ready.
func NewGroup(children []Child) *Group {
	pickers, weights := make([]balancer.Picker, 0, len(children)), make([]int, 0, len(children))
	for _, c := range children {
		if c.Picker != nil {
			pickers, weights = append(pickers, c.Picker), append(weights, c.Weight)
		}
	}
	if len(pickers) == 0 {
		return nil
	}
	g := &Group{schedule: schedule.New(weights), pickers: pickers}
	if n := g.schedule.Cycle(); n > 0 && n <= longestOrder {
		g.order = make([]balancer.Picker, n)
		for k := range g.order {
			g.order[k] = pickers[g.schedule.At(uint32(k))]
		}
	}
	return g
}

// Len returns the number of ready children in g, which may be nil.
func (g *Group) Len() int {
	if g == nil {
		return 0
	}
	return len(g.pickers)
}

// Picker returns a picker over g that counts its picks in turn. The next picker goes on with the same count.
func (g *Group) Picker(turn *atomic.Uint32) balancer.Picker { return &picker{group: g, turn: turn} }

type picker struct {
	group *Group
	turn  *atomic.Uint32
}

// Pick implements [balancer.Picker].
func (p *picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	return p.group.Pick(p.turn.Add(1), info)
}

// Pick picks with the turn-th element of the schedule.
func (g *Group) Pick(turn uint32, info balancer.PickInfo) (balancer.PickResult, error) {
	if n := uint32(len(g.order)); n > 0 {
		return g.order[turn%n].Pick(info)
	}
	return g.pickers[g.schedule.At(turn)].Pick(info)
}
