//go:build unix

package etcd

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/raced"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// A value of 512 KiB that changes a hundred times a second costs less than half of a core, although etcd sends each change. What the fake
// etcd in this process costs is included.
func TestWatchValue_LargeValueCostsABoundedShare(t *testing.T) {
	const writes, rate = 300, 100
	f := startScripted(t)
	data := make([]byte, registry.MaxValueSize)
	put := func(i int) {
		binary.BigEndian.PutUint64(data, uint64(i))
		f.put(storedValue, string(data))
	}
	put(0)
	w := watchtest.WatchValue(t, connect(t, Config{Endpoints: []string{f.addr}}), valueKey)
	w.Until("a value", func(p watchtest.ValuePair) bool { return p.Err == nil })
	start, before := time.Now(), cpuTime()
	tick := time.NewTicker(time.Second / rate)
	defer tick.Stop()
	for i := range writes {
		put(i + 1)
		<-tick.C
	}
	w.Until("the last value", func(p watchtest.ValuePair) bool {
		return p.Err == nil && binary.BigEndian.Uint64(p.Value.Data) == writes
	})
	took, cpu := time.Since(start), cpuTime()-before
	share := float64(cpu) / float64(took)
	t.Logf("%d writes in %v, %d values, %.0f%% of a core", writes, took.Round(time.Millisecond), len(w.All()), 100*share)
	for _, p := range w.All() {
		if p.Err != nil {
			t.Errorf("the watch yields %v", p)
		}
	}
	if share > 0.5 && !raced.Enabled { // the race detector multiplies it
		t.Errorf("it costs %.0f%% of a core", 100*share)
	}
}
