package zone

import (
	"testing"

	"google.golang.org/grpc/balancer"

	"github.com/rollcall-go/rollcall/grpcx/internal/sharded"
	"github.com/rollcall-go/rollcall/internal/choose"
	"github.com/rollcall-go/rollcall/internal/schedule"
)

type readyPicker struct{ balancer.Picker }

// The resolver tells that no instance of a zone passes a moment before it removes their endpoints.
func TestPolicy_PicksReadyInstancesWhenNoZonePasses(t *testing.T) {
	p := new(policy)
	p.latest.Store(&latest{config: &config{zone: "a", threshold: defaultThreshold}, zones: choose.Zones{"a": {Missing: 1}, "b": {Missing: 5}}})
	own, other := sharded.Child{Zone: "a", Weight: 1, Picker: readyPicker{}}, sharded.Child{Zone: "b", Weight: 1, Picker: readyPicker{}}
	for _, c := range []struct {
		children []sharded.Child
		ok       func(balancer.Picker) bool
	}{
		{[]sharded.Child{own}, func(p balancer.Picker) bool {
			s, ok := p.(*single)
			return ok && s.group.Len() == 1 && &s.labels[0] == &localLabel[0]
		}},
		{[]sharded.Child{other}, func(p balancer.Picker) bool {
			s, ok := p.(*single)
			return ok && s.group.Len() == 1 && &s.labels[0] == &otherLabel[0]
		}},
		{[]sharded.Child{own, other}, func(p balancer.Picker) bool { s, ok := p.(*split); return ok && s.schedule == schedule.NewSplit(0.5) }},
	} {
		if got := p.picker(c.children); !c.ok(got) {
			t.Errorf("the picker of %d children is %#v", len(c.children), got)
		}
	}
}
