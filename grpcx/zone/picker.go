package zone

import (
	"sync/atomic"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/experimental/stats"

	"github.com/rollcall-go/rollcall/grpcx/internal/sharded"
)

// single picks from one group.
type single struct {
	group    *sharded.Group
	where    []string // local or other
	turn     *atomic.Uint32
	recorder stats.MetricsRecorder
}

// Pick implements [balancer.Picker].
func (p *single) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	picks.Record(p.recorder, 1, p.where...)
	return p.group.Pick(p.turn.Add(1), info)
}

// split picks from two groups. Those of one stand apart from one another, as evenly as whole calls can.
type split struct {
	own, other *sharded.Group
	share      uint64 // of own, in units of 2⁻³²; less than 1
	turn       *atomic.Uint32
	recorder   stats.MetricsRecorder
}

// Pick implements [balancer.Picker]. After n picks own has had n times its share, rounded down: a pick is its own where that
// number rises. It is also the turn within the group, which makes the turns of each group follow one another.
func (p *split) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	turn := p.turn.Add(1)
	before := uint64(turn) * p.share
	turns := uint32(before >> 32)
	if uint32((before+p.share)>>32) != turns {
		picks.Record(p.recorder, 1, local...)
		return p.own.Pick(turns, info)
	}
	picks.Record(p.recorder, 1, other...)
	return p.other.Pick(turn-turns, info)
}
