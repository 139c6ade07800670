package etcd

import (
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/rollcall-go/rollcall/etcd/internal/etcdtest"
	"github.com/rollcall-go/rollcall/registry"
)

// After any changes, the set is sorted and only has instances of its service.
func FuzzSource_Apply(f *testing.F) {
	f.Add("a", `{"address":"h:1"}`, "b", `{"address":"h:2","status":"maintenance"}`, uint8(0b1000))
	f.Add("a", `{"address":"h:1"}`, "a", "", uint8(0b1010))
	f.Add("", "\x00", "deep/er", `{"id":"deep/er","address":"h:1"}`, uint8(0b0110))
	d := driverFor(f, Config{})
	d.Close()
	f.Fuzz(func(t *testing.T, id, value, otherID, otherValue string, deletions uint8) {
		s := d.Watch(registry.Query{Service: "s"}).(*source)
		for i := range 4 {
			var changes []*mvccpb.Event
			for _, e := range []*mvccpb.Event{etcdtest.Event(s.prefix+id, value), etcdtest.Event(s.prefix+otherID, otherValue)} {
				if deletions>>i&1 == 1 {
					e.Type = mvccpb.Event_DELETE
				}
				changes = append(changes, e)
			}
			var edit setChanges
			if err := s.apply(t.Context(), &edit, changes); err != nil {
				t.Fatal(err)
			}
			s.set, _ = edit.of(s.set)
			for i, in := range s.set {
				if in.Service != s.service || in.ID == "" || i > 0 && in.ID <= s.set[i-1].ID {
					t.Fatalf("the set of %s has %+v", s.service, in)
				}
			}
			s.departures.drain()
			s.listUnreadable()
		}
	})
}
