package etcd

import (
	"maps"
	"reflect"
	"testing"
	"unsafe"

	"github.com/rollcall-go/rollcall/registry"
)

func TestWhatIsAlikeIsHeldOnce(t *testing.T) {
	decode := func(id, rest string) *registry.Instance {
		t.Helper()
		in, err := ownFormat{}.decode("s", id, []byte(`{"address":"10.0.0.1:80","zone":"z","tags":["x","y"],`+rest+`}`))
		if err != nil {
			t.Fatal(err)
		}
		return in
	}
	one := decode("a", `"version":"1","metadata":{"k":"v"}`)
	other := decode("b", `"version":"2","metadata":{"k":"v"}`)
	third := decode("c", `"version":"2","metadata":{"k":"w"}`)
	want := []*registry.Instance{one.Clone(), other.Clone(), third.Clone()}
	makeAlike(other, one)
	makeAlike(third, other)
	for i, in := range []*registry.Instance{one, other, third} {
		if !in.Equal(want[i]) {
			t.Errorf("it became %v, and was %v", in, want[i])
		}
	}
	held := func(m map[string]string) uintptr { return reflect.ValueOf(m).Pointer() }
	if held(one.Metadata) != held(other.Metadata) || held(other.Metadata) == held(third.Metadata) || !maps.Equal(third.Metadata, map[string]string{"k": "w"}) {
		t.Error("the metadata is not held once where it is the same, and then alone")
	}
	if unsafe.StringData(other.Version) != unsafe.StringData(third.Version) || &one.Tags[0] != &third.Tags[0] {
		t.Error("a version or the tags are held twice")
	}
}
