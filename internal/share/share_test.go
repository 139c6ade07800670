package share

import (
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"
	"unsafe"

	"github.com/rollcall-go/rollcall/registry"
)

// instance returns an instance whose texts are in memory of their own.
func instance(id, version, build string, own ...string) *registry.Instance {
	c := strings.Clone
	in := &registry.Instance{
		ID: id, Service: c("web"), Address: "10.0.0.1:80", Version: c(version), Zone: c("eu-1a"), Tags: []string{c("http"), c("blue")},
		Endpoints: map[string]string{c("http"): c("10.0.0.1:81")}, Metadata: map[string]string{c("team"): c("payments"), c("build"): c(build)},
	}
	for _, v := range own {
		in.Metadata[c("pod")] = c(v)
	}
	return in
}

func isSame(a, b string) bool { return a == b && unsafe.StringData(a) == unsafe.StringData(b) }

func isSameMap(a, b map[string]string) bool {
	return reflect.ValueOf(a).Pointer() == reflect.ValueOf(b).Pointer()
}

// key returns the key of m that equals k, with the memory that m uses.
func key(m map[string]string, k string) string {
	for own := range m {
		if own == k {
			return own
		}
	}
	return ""
}

func TestShare_EqualPartsAreInMemoryOnce(t *testing.T) {
	var r Recent
	a, b := instance("a", "1", "4711"), instance("b", "1", "4711")
	r.Share(a)
	r.Share(b)
	if !isSame(a.Service, b.Service) || !isSame(a.Version, b.Version) || !isSame(a.Zone, b.Zone) || &a.Tags[0] != &b.Tags[0] {
		t.Error("equal texts or tags are in memory twice")
	}
	if !isSameMap(a.Metadata, b.Metadata) || isSameMap(a.Endpoints, b.Endpoints) {
		t.Error("equal metadata are in memory twice, or the endpoints once")
	}
	if !isSame(key(a.Endpoints, "http"), key(b.Endpoints, "http")) {
		t.Error("the name of an endpoint is in memory twice")
	}
}

func TestShare_EqualPairsOfDifferentMetadataAreInMemoryOnce(t *testing.T) {
	var r Recent
	a, b := instance("a", "1", "4711", "pod-a"), instance("b", "1", "4711", "pod-b")
	r.Share(a)
	r.Share(b)
	if isSameMap(a.Metadata, b.Metadata) || a.Metadata["pod"] != "pod-a" || b.Metadata["pod"] != "pod-b" {
		t.Fatalf("the metadata are %v and %v", a.Metadata, b.Metadata)
	}
	for _, k := range []string{"team", "build", "pod"} {
		if !isSame(key(a.Metadata, k), key(b.Metadata, k)) {
			t.Errorf("the key %q is in memory twice", k)
		}
		if k != "pod" && !isSame(a.Metadata[k], b.Metadata[k]) {
			t.Errorf("the value of %q is in memory twice", k)
		}
	}
}

// In a rolling deploy, instances of two versions come in any order.
func TestShare_TwoVersionsInTurn(t *testing.T) {
	for _, own := range []bool{false, true} {
		var r Recent
		var all []*registry.Instance
		for i := range 8 {
			version := fmt.Sprint(i % 2)
			in := instance(fmt.Sprint(i), version, "build-"+version)
			if own {
				in.Metadata["pod"] = in.ID
			}
			r.Share(in)
			all = append(all, in)
		}
		for i, in := range all[2:] {
			before := all[i]
			if isSameMap(in.Metadata, before.Metadata) == own || !isSame(in.Metadata["build"], before.Metadata["build"]) || !isSame(in.Version, before.Version) {
				t.Errorf("own pods: %v: instance %s does not share with instance %s", own, in.ID, before.ID)
			}
		}
	}
}

// The content of every instance stays as it is, even if others use its memory.
func TestShare_ChangesNoContent(t *testing.T) {
	var r Recent
	var all, want []*registry.Instance
	for i := range 200 {
		in := instance(fmt.Sprint(i), fmt.Sprint(i%3), fmt.Sprint(i%7))
		switch i % 5 {
		case 1:
			in.Metadata = nil
		case 2:
			in.Metadata["pod"] = in.ID
		case 3:
			in.Tags, in.Endpoints = nil, nil
		case 4:
			in.Metadata = maps.Clone(in.Metadata)
			delete(in.Metadata, "team")
		}
		all, want = append(all, in), append(want, in.Clone())
		r.Share(in)
	}
	for i := range all {
		if !all[i].Equal(want[i]) {
			t.Errorf("%+v has become %+v", want[i], all[i])
		}
	}
}
