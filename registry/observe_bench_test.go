package registry_test

import (
	"fmt"
	"testing"

	"github.com/rollcall-go/rollcall/registry"
)

// BenchmarkObserve_Storm makes 2,000 changes of a set of 100 that a watch sees one by one. With an observer that never returns the
// watch must take as long as without one.
func BenchmarkObserve_Storm(b *testing.B) {
	for _, observer := range []string{"none", "fast", "stuck"} {
		b.Run(observer, func(b *testing.B) {
			for b.Loop() {
				storm(b, observer)
			}
		})
	}
}

func storm(b *testing.B, observer string) {
	b.Helper()
	d := newFake()
	for i := range 100 {
		d.put(instance(fmt.Sprint("i", i)))
	}
	r, err := registry.New(d, registry.Options{Burst: 1 << 20})
	if err != nil {
		b.Fatal(err)
	}
	stuck := make(chan struct{})
	switch observer {
	case "fast":
		r.Observe(func(registry.Event) {})
	case "stuck":
		r.Observe(func(registry.Event) { <-stuck })
	}
	defer b.StartTimer()
	defer r.Close()
	defer close(stuck)
	defer b.StopTimer() // what Close does is not measured
	changes := 0
	for set, err := range r.Watch(b.Context(), registry.Query{Service: "web"}) {
		if err != nil || len(set) != 100 {
			b.Fatal(len(set), err)
		}
		if changes++; changes > 2000 {
			return
		}
		in := instance("i50")
		in.Version = fmt.Sprint(changes)
		d.put(in)
	}
}
