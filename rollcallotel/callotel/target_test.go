package callotel

import (
	"fmt"
	"testing"

	"github.com/rollcall-go/rollcall/registry"
)

func TestTargets_FindServiceAndQuery(t *testing.T) {
	var known targets
	for text, want := range map[string]target{
		"rollcall:///greeter": {service: "greeter"},
		"rollcall:greeter":    {service: "greeter"},
		"rollcall:///greeter?policy=rollcall_p2c&subset=3":          {service: "greeter"},
		"rollcall:///a/b?version=v2&tag=eu&tag=a&tag=eu&meta.x=%26": {service: "a/b", query: "meta.x=%26&tag=a&tag=eu&version=v2"},
		"rollcall:///greeter?any-status=1":                          {service: "greeter", query: "any-status=true"},
	} {
		for range 2 {
			if got := known.parsed(text); got == nil || *got != want {
				t.Errorf("%s is %v, want %v", text, got, want)
			}
		}
	}
	for _, text := range []string{"dns:///10.9.8.7:80", "10.9.8.7:80", "consul://:secret@host/greeter", ""} {
		if got := known.parsed(text); got != nil {
			t.Errorf("%s is %v, want nil", text, got)
		}
	}
}

func TestTargets_RememberFew(t *testing.T) {
	var known targets
	for i := range 2 * maxTargets {
		if got := known.parsed(fmt.Sprintf("rollcall:///s%d", i)); got == nil || got.service != fmt.Sprint("s", i) {
			t.Fatalf("target %d is %v", i, got)
		}
	}
	if len(known.known) != maxTargets {
		t.Errorf("%d targets are remembered, want %d", len(known.known), maxTargets)
	}
}

func TestSelection_IsLikeTarget(t *testing.T) {
	q := registry.Query{Service: "s", Tags: []string{"b", "a", "b"}, Version: "v2", Metadata: map[string]string{"x": "1"}, AnyStatus: true}
	if got, want := selection(q), parseTarget("rollcall:///s?any-status=true&version=v2&tag=a&tag=b&meta.x=1").query; got != want {
		t.Errorf("the query is %q, want %q", got, want)
	}
}
