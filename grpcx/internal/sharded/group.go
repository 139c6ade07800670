package sharded

import (
	"sync/atomic"

	"google.golang.org/grpc/balancer"

	"github.com/rollcall-go/rollcall/grpcx/internal/schedule"
)

// Group picks among ready children by their weights. It is safe for concurrent use.
type Group struct {
	schedule *schedule.Schedule
	pickers  []balancer.Picker
}

// NewGroup returns the group of those that are ready among children. It is nil where none is.
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
	return &Group{schedule: schedule.New(weights), pickers: pickers}
}

// Len returns the number of ready children in g, which may be nil.
func (g *Group) Len() int {
	if g == nil {
		return 0
	}
	return len(g.pickers)
}

// Picker returns a picker over g that counts its picks in turn, where the picker after it goes on.
func (g *Group) Picker(turn *atomic.Uint32) balancer.Picker { return &picker{group: g, turn: turn} }

type picker struct {
	group *Group
	turn  *atomic.Uint32
}

// Pick implements [balancer.Picker].
func (p *picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	return p.group.Pick(p.turn.Add(1), info)
}

// Pick makes the turn-th pick.
func (g *Group) Pick(turn uint32, info balancer.PickInfo) (balancer.PickResult, error) {
	return g.pickers[g.schedule.At(turn)].Pick(info)
}
