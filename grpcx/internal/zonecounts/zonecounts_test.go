package zonecounts

import (
	"testing"

	"google.golang.org/grpc/resolver"

	"github.com/rollcall-go/rollcall/internal/choose"
)

func TestZones_Share(t *testing.T) {
	z := choose.Zones{"a": {Passing: 3, Missing: 1}, "b": {Passing: 2}, "c": {Missing: 5}, "": {Passing: 1, Missing: 1}}
	for zones, want := range map[string]float64{"a": 0.75, "b": 1, "c": 0, "ab": 5.0 / 6, "abc": 5.0 / 11, "-": 0.5, "d": 1} {
		in := func(zone string) bool {
			if zone == "" {
				zone = "-"
			}
			for _, one := range zones {
				if zone == string(one) {
					return true
				}
			}
			return false
		}
		if got := From(Set(resolver.State{}, z)).Share(in); got != want {
			t.Errorf("in %s the share is %v, want %v", zones, got, want)
		}
	}
	if s := Set(resolver.State{}, nil); s.Attributes != nil || From(s).Share(func(string) bool { return true }) != 1 {
		t.Error("none is something")
	}
}
