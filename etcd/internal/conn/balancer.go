package conn

import (
	"context"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A member that is cut off from the others, or hangs, may still be connected. gRPC's own round robin would give it its share of the calls.
// Worse, the three calls in a row that a registration takes would always meet one bad member of three. So calls go to all members in turn,
// except members that have just failed to act as a part of their cluster.

const balancerName = "rollcall_etcd_members"

func init() {
	balancer.Register(balancerBuilder{base.NewBalancerBuilder(balancerName, pickers{}, base.Config{})})
}

// Avoidance is how long a bad member gets no calls, unless all members are bad. It is long, because a member that hangs costs a caller the
// whole timeout, while a member that has recovered is not needed at once.
const Avoidance = 30 * time.Second

type pickers struct{}

func (pickers) Build(info base.PickerBuildInfo) balancer.Picker {
	if len(info.ReadySCs) == 0 {
		return base.NewErrPicker(balancer.ErrNoSubConnAvailable)
	}
	p := &picker{began: time.Now()}
	for conn := range info.ReadySCs {
		p.members = append(p.members, &pickable{conn: conn.(*member)})
	}
	return p
}

// picker chooses among the connected members. Each time they change, a new picker takes over, which knows of no failures, but which members
// are proven.
type picker struct {
	began   time.Time
	members []*pickable
	next    atomic.Uint32
}

type pickable struct {
	conn   *member
	failed atomic.Int64 // when it last failed, as the time since picker.began; 0 if it has succeeded since
}

func (p *picker) Pick(i balancer.PickInfo) (balancer.PickResult, error) {
	m := p.choose(time.Since(p.began), isStream(i.FullMethodName))
	late, _ := i.Ctx.Value(lateness{}).(*atomic.Bool)
	if to, ok := i.Ctx.Value(chosen{}).(*atomic.Pointer[member]); ok {
		to.Store(m.conn)
	}
	return balancer.PickResult{SubConn: m.conn.SubConn, Done: func(i balancer.DoneInfo) {
		err := i.Err
		if late != nil && late.Load() {
			err = ErrLate
		}
		m.learn(time.Since(p.began), err)
	}}, nil
}

// lateness is the context key of an *atomic.Bool that tells whether a stream was ended because an answer was late. A call that was late has
// an error that says so, but a stream has no deadline.
type lateness struct{}

// ErrLate is why a stream has ended on which an answer was late.
var ErrLate = status.Error(codes.DeadlineExceeded, "an answer was late")

// isStream reports whether a method is a stream. A stream can be opened at a member that then refuses everything sent on it.
func isStream(method string) bool {
	return method == pb.Watch_Watch_FullMethodName || method == pb.Lease_LeaseKeepAlive_FullMethodName
}

// choose returns the next good member. If all are bad, it returns the member that failed first. A stream goes to a member that has
// answered a call, if there is one.
func (p *picker) choose(now time.Duration, stream bool) *pickable {
	turn := p.next.Add(1) % uint32(len(p.members))
	var longest *pickable
	for i := range p.members {
		if m := p.members[(int(turn)+i)%len(p.members)]; stream && m.conn.proven.Load() {
			return m
		}
	}
	for i := range p.members {
		m := p.members[(int(turn)+i)%len(p.members)]
		failed := m.failed.Load()
		if failed == 0 || now-time.Duration(failed) > Avoidance {
			return m
		}
		if longest == nil || failed < longest.failed.Load() {
			longest = m
		}
	}
	return longest
}

// learnerPauses are the pauses before a call that a learner refused is repeated. The next member is another one; if only the learner is
// connected, another one may be soon.
var learnerPauses = []time.Duration{0, 50 * time.Millisecond, 200 * time.Millisecond}

// avoidLearners is an interceptor. It repeats a call that a learner refused, which is safe, since the learner did not carry it out. A
// learner among the endpoints gets a call after each Avoidance. The repetition keeps that call from failing.
func avoidLearners(ctx context.Context, method string, request, answer any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, o ...grpc.CallOption) error {
	err := invoke(ctx, method, request, answer, conn, o...)
	for _, pause := range learnerPauses {
		if !Says(err, rpctypes.ErrGRPCNotSupportedForLearner) {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
		err = invoke(ctx, method, request, answer, conn, o...)
	}
	return err
}

// learn notes how a call or a stream has ended.
func (m *pickable) learn(now time.Duration, err error) {
	switch {
	case err == nil:
		m.failed.Store(0)
		m.conn.proven.Store(true)
	case Isolated(err):
		m.failed.Store(int64(now))
		m.conn.proven.Store(false)
	}
}

// Isolated reports whether err is the failure of a member that does not answer, has no leader, or is a learner, which refuses nearly all
// calls until it is promoted. A gateway that answers instead of a member counts as well.
func Isolated(err error) bool {
	if st := status.Convert(err); st.Code() == codes.DeadlineExceeded || isForeign(st) {
		return true
	}
	for _, e := range []error{
		rpctypes.ErrGRPCNoLeader, rpctypes.ErrGRPCTimeout, rpctypes.ErrGRPCTimeoutDueToLeaderFail,
		rpctypes.ErrGRPCTimeoutDueToConnectionLost, rpctypes.ErrGRPCTimeoutWaitAppliedIndex,
		rpctypes.ErrGRPCNotSupportedForLearner,
	} {
		if Says(err, e) {
			return true
		}
	}
	return false
}
