package watchtest

import (
	"runtime"
	"testing"

	"github.com/rollcall-go/rollcall/registry"
)

// InstanceSize watches a service until the set has n instances, and returns how many bytes of memory the open watch needs for each. It first
// watches the service few, of one instance, for everything that does not depend on the number of instances.
func InstanceSize(t testing.TB, r *registry.Registry, few, service string, n int) float64 {
	t.Helper()
	watch := func(service string, n int) *Watcher {
		w := Watch(t, r, registry.Query{Service: service})
		w.Until("the whole set", func(p Pair) bool { return len(p.Set) == n && p.Err == nil })
		return w
	}
	one := watch(few, 1)
	before := heap()
	all := watch(service, n)
	added := heap() - before
	one.Stop()
	all.Stop()
	return added / float64(n)
}

// heap returns the bytes in use after what sync.Pool keeps was collected too.
func heap() float64 {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}
