package etcd

import (
	"errors"
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
		p.members = append(p.members, new(pickable))
	}
	return p
}

// chosen is how often each member is chosen in the next calls.
func (p *picker) chosen(calls int, now time.Duration) []int {
	times := make([]int, len(p.members))
	for range calls {
		m := p.choose(now)
		for i := range p.members {
			if p.members[i] == m {
				times[i]++
			}
		}
	}
	return times
}

func TestMembersTakeTurns(t *testing.T) {
	p := pickerOf(3)
	wantChosen(t, p.chosen(9, time.Second), 3, 3, 3)
	p.members[1].learn(time.Second, rpctypes.ErrGRPCNoLeader)
	times := p.chosen(9, 2*time.Second)
	if times[1] != 0 || times[0]+times[2] != 9 || times[0] == 0 || times[2] == 0 {
		t.Errorf("with the second one cut off, calls go to %v", times)
	}
	// It is tried again after a while, and gets its share where it does well.
	wantChosen(t, p.chosen(9, 2*time.Second+avoidance), 3, 3, 3)
	p.members[1].learn(time.Minute, status.Error(codes.DeadlineExceeded, "it hangs"))
	p.members[1].learn(time.Minute, nil)
	wantChosen(t, p.chosen(9, time.Minute), 3, 3, 3)
}

// Where all are bad, the one is next that has been bad for longest: so a good one among them is soon found.
func TestAllMembersAreBad(t *testing.T) {
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

// What a member answers for a reason of its own says nothing about its place in the cluster.
func TestWhatIsNoIsolation(t *testing.T) {
	p := pickerOf(2)
	for _, err := range []error{
		rpctypes.ErrGRPCPermissionDenied, rpctypes.ErrGRPCLeaseNotFound, rpctypes.ErrGRPCInvalidAuthToken, rpctypes.ErrGRPCCompacted,
		status.Error(codes.Canceled, "the caller has gone"), errors.New("anything"),
	} {
		p.members[0].learn(time.Second, err)
	}
	wantChosen(t, p.chosen(4, time.Second), 2, 2)
}

func TestNoMemberIsConnected(t *testing.T) {
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
