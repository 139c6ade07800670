package etcd

import (
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A member that is cut off from the others, or hangs, is connected all the same. gRPC's own round robin would give it its share
// of the calls, and worse: three calls in a row, which is what it takes to announce, always meet one bad member of three. So
// calls go to all members in turn but for those that failed to be part of a cluster just now.

const balancerName = "rollcall_etcd_members"

func init() {
	balancer.Register(base.NewBalancerBuilder(balancerName, pickers{}, base.Config{}))
}

// avoidance is for how long a bad member gets no calls, unless all are bad or it is the only one. One that hangs costs a
// caller its whole patience, so it is long; one that is well again is not missed meanwhile.
const avoidance = 30 * time.Second

type pickers struct{}

func (pickers) Build(info base.PickerBuildInfo) balancer.Picker {
	if len(info.ReadySCs) == 0 {
		return base.NewErrPicker(balancer.ErrNoSubConnAvailable)
	}
	p := &picker{began: time.Now()}
	for conn := range info.ReadySCs {
		p.members = append(p.members, &pickable{conn: conn})
	}
	return p
}

// picker chooses among the members that are connected. Whenever those change there is another, which begins without a grudge.
type picker struct {
	began   time.Time
	members []*pickable
	next    atomic.Uint32
}

type pickable struct {
	conn   balancer.SubConn
	failed atomic.Int64 // how long after the picker's beginning it failed last; 0 where it did well since
}

func (p *picker) Pick(i balancer.PickInfo) (balancer.PickResult, error) {
	m := p.choose(time.Since(p.began))
	late, _ := i.Ctx.Value(lateness{}).(*atomic.Bool)
	return balancer.PickResult{SubConn: m.conn, Done: func(i balancer.DoneInfo) {
		err := i.Err
		if late != nil && late.Load() {
			err = errLate
		}
		m.learn(time.Since(p.began), err)
	}}, nil
}

// lateness is the key of what a context has for a stream: whether it was ended since an answer was late. A call says so by its
// error, and a stream has no deadline.
type lateness struct{}

var errLate = status.Error(codes.DeadlineExceeded, "an answer was late")

// choose returns the next good member and, where there is none, the one that has been bad for longest.
func (p *picker) choose(now time.Duration) *pickable {
	turn := p.next.Add(1) % uint32(len(p.members))
	var longest *pickable
	for i := range p.members {
		m := p.members[(int(turn)+i)%len(p.members)]
		failed := m.failed.Load()
		if failed == 0 || now-time.Duration(failed) > avoidance {
			return m
		}
		if longest == nil || failed < longest.failed.Load() {
			longest = m
		}
	}
	return longest
}

// learn draws a conclusion from how a call ended, or a stream.
func (m *pickable) learn(now time.Duration, err error) {
	switch {
	case err == nil:
		m.failed.Store(0)
	case isolated(err):
		m.failed.Store(int64(now))
	}
}

// isolated reports whether err is how a member fails that does not answer, or has no leader.
func isolated(err error) bool {
	if status.Code(err) == codes.DeadlineExceeded {
		return true
	}
	for _, e := range []error{
		rpctypes.ErrGRPCNoLeader, rpctypes.ErrGRPCTimeout, rpctypes.ErrGRPCTimeoutDueToLeaderFail,
		rpctypes.ErrGRPCTimeoutDueToConnectionLost, rpctypes.ErrGRPCTimeoutWaitAppliedIndex,
	} {
		if says(err, e) {
			return true
		}
	}
	return false
}
