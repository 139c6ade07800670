package zone

import (
	"sync/atomic"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/experimental/stats"

	"github.com/rollcall-go/rollcall/grpcx/internal/sharded"
	"github.com/rollcall-go/rollcall/internal/schedule"
)

// single picks from one group.
type single struct {
	group    *sharded.Group
	labels   []string // localLabel or otherLabel
	turn     *atomic.Uint32
	recorder stats.MetricsRecorder
}

// Pick implements [balancer.Picker].
func (p *single) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	picks.Record(p.recorder, 1, p.labels...)
	return p.group.Pick(p.turn.Add(1), info)
}

// split picks from two groups, and spreads the picks of each group evenly.
type split struct {
	own, other *sharded.Group
	schedule   schedule.Split
	turn       *atomic.Uint32
	recorder   stats.MetricsRecorder
}

// Pick implements [balancer.Picker].
func (p *split) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	own, turn := p.schedule.At(p.turn.Add(1))
	if own {
		picks.Record(p.recorder, 1, localLabel...)
		return p.own.Pick(turn, info)
	}
	picks.Record(p.recorder, 1, otherLabel...)
	return p.other.Pick(turn, info)
}
