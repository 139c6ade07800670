package conn

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func pickerOf(n int) *picker {
	p := &picker{}
	for range n {
		p.members = append(p.members, &pickable{conn: new(member)})
	}
	return p
}

// chosen returns how often each member is chosen for the next calls.
func (p *picker) chosen(calls int, now time.Duration) []int {
	times := make([]int, len(p.members))
	for range calls {
		m := p.choose(now, false)
		for i := range p.members {
			if p.members[i] == m {
				times[i]++
			}
		}
	}
	return times
}

func TestChoose_MembersTakeTurns(t *testing.T) {
	p := pickerOf(3)
	wantChosen(t, p.chosen(9, time.Second), 3, 3, 3)
	p.members[1].learn(time.Second, rpctypes.ErrGRPCNoLeader)
	times := p.chosen(9, 2*time.Second)
	if times[1] != 0 || times[0]+times[2] != 9 || times[0] == 0 || times[2] == 0 {
		t.Errorf("with the second one cut off, calls go to %v", times)
	}
	// It is tried again after a while, and gets its share if it succeeds.
	wantChosen(t, p.chosen(9, 2*time.Second+Avoidance), 3, 3, 3)
	p.members[1].learn(time.Minute, status.Error(codes.DeadlineExceeded, "it hangs"))
	p.members[1].learn(time.Minute, nil)
	wantChosen(t, p.chosen(9, time.Minute), 3, 3, 3)
	p.members[2].learn(time.Minute, rpctypes.ErrGRPCNotSupportedForLearner)
	wantChosen(t, p.chosen(9, time.Minute+time.Second)[2:], 0)
	p.members[1].learn(time.Minute, status.Error(codes.PermissionDenied, "unexpected HTTP status code received from server: 403 (Forbidden)"))
	wantChosen(t, p.chosen(9, time.Minute+time.Second), 9, 0, 0)
}

// If all members are bad, the next call goes to the member that failed first, so a recovered member is soon found.
func TestChoose_AllMembersAreBad(t *testing.T) {
	p := pickerOf(3)
	for i, m := range p.members {
		m.learn(time.Duration(3-i)*time.Second, rpctypes.ErrGRPCNoLeader)
	}
	now := 4 * time.Second
	wantChosen(t, p.chosen(5, now), 0, 0, 5)
	p.members[2].learn(now, rpctypes.ErrGRPCNoLeader)
	wantChosen(t, p.chosen(5, now), 0, 5, 0)
	p.members[1].learn(now, nil)
	wantChosen(t, p.chosen(5, now), 0, 5, 0)
	one := pickerOf(1)
	one.members[0].learn(now, rpctypes.ErrGRPCNoLeader)
	wantChosen(t, one.chosen(5, now), 5)
}

// Other errors say nothing about the member's place in the cluster.
func TestLearn_OtherErrors(t *testing.T) {
	p := pickerOf(2)
	for _, err := range []error{
		rpctypes.ErrGRPCPermissionDenied, rpctypes.ErrGRPCLeaseNotFound, rpctypes.ErrGRPCInvalidAuthToken, rpctypes.ErrGRPCCompacted,
		status.Error(codes.Canceled, "the caller has gone"), errors.New("anything"),
	} {
		p.members[0].learn(time.Second, err)
	}
	wantChosen(t, p.chosen(4, time.Second), 2, 2)
}

// A stream has no deadline, and ends with Canceled if an answer on it was late. Its context says so.
func TestPick_AvoidsAMemberWhoseStreamWasLate(t *testing.T) {
	for _, wasLate := range []bool{true, false} {
		p := &picker{began: time.Now().Add(-time.Second), members: []*pickable{{conn: new(member)}, {conn: new(member)}}}
		var late atomic.Bool
		ctx, to := withChosen(context.WithValue(t.Context(), lateness{}, &late))
		picked, err := p.Pick(balancer.PickInfo{Ctx: ctx})
		if err != nil {
			t.Fatal(err)
		}
		late.Store(wasLate)
		picked.Done(balancer.DoneInfo{Err: status.Error(codes.Canceled, "context canceled")})
		times := p.chosen(10, time.Since(p.began))
		avoided := 0
		for i, m := range p.members {
			if m.conn == to.Load() {
				avoided = times[i]
			}
		}
		if want := map[bool]int{true: 0, false: 5}[wasLate]; avoided != want {
			t.Errorf("late %v: the member gets %d of the next 10 calls, want %d", wasLate, avoided, want)
		}
	}
}

// A stream is opened without an answer, so it goes to a member that has answered a call, as long as there is one.
func TestPick_StreamGoesToAMemberThatHasAnswered(t *testing.T) {
	p := pickerOf(3)
	now := time.Second
	stream := func() *pickable { return p.choose(now, true) }
	if first := stream(); first == stream() {
		t.Error("before the first answer streams do not take turns")
	}
	p.members[1].learn(now, nil)
	for range 6 {
		if stream() != p.members[1] {
			t.Fatal("a stream goes to a member that has answered nothing")
		}
	}
	wantChosen(t, p.chosen(9, now), 3, 3, 3)
	p.members[1].learn(now, rpctypes.ErrGRPCNotSupportedForLearner)
	if stream() == p.members[1] {
		t.Error("a stream goes to a learner")
	}
	p.members[2].learn(now, nil)
	next := &picker{began: time.Now(), members: []*pickable{{conn: p.members[0].conn}, {conn: p.members[2].conn}}} // the members have changed
	for range 6 {
		if next.choose(now, true) != next.members[1] {
			t.Fatal("the next picker does not know which member has answered")
		}
	}
}

func TestBuild_NoMemberIsConnected(t *testing.T) {
	if _, err := (pickers{}).Build(base.PickerBuildInfo{}).Pick(balancer.PickInfo{}); err != balancer.ErrNoSubConnAvailable {
		t.Errorf("got %v", err)
	}
}

func wantChosen(t *testing.T, have []int, want ...int) {
	t.Helper()
	for i := range want {
		if have[i] != want[i] {
			t.Errorf("calls go to %v, want %v", have, want)
			return
		}
	}
}
