package zone

import (
	"testing"

	"google.golang.org/grpc/balancer"

	"github.com/rollcall-go/rollcall/grpcx/internal/passing"
	"github.com/rollcall-go/rollcall/grpcx/internal/sharded"
)

type readyPicker struct{ balancer.Picker }

// For a moment a zone is known to have none that pass, and still has connections.
func TestAZoneThatIsToldOfBeforeItsEndpoints(t *testing.T) {
	p := new(policy)
	p.known.Store(&known{config: &config{zone: "a", threshold: defaultThreshold}, zones: passing.Zones{"a": {Missing: 1}, "b": {Missing: 5}}})
	ours, theirs := sharded.Child{Zone: "a", Weight: 1, Picker: readyPicker{}}, sharded.Child{Zone: "b", Weight: 1, Picker: readyPicker{}}
	for _, c := range []struct {
		children []sharded.Child
		ok       func(balancer.Picker) bool
	}{
		{[]sharded.Child{ours}, func(p balancer.Picker) bool {
			s, ok := p.(*single)
			return ok && s.group.Len() == 1 && &s.where[0] == &local[0]
		}},
		{[]sharded.Child{theirs}, func(p balancer.Picker) bool {
			s, ok := p.(*single)
			return ok && s.group.Len() == 1 && &s.where[0] == &other[0]
		}},
		{[]sharded.Child{ours, theirs}, func(p balancer.Picker) bool { s, ok := p.(*split); return ok && s.share == 1<<31 }},
	} {
		if got := p.picker(c.children); !c.ok(got) {
			t.Errorf("of %d children it makes %#v", len(c.children), got)
		}
	}
}
