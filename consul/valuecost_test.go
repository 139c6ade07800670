//go:build unix

package consul

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/raced"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// A value of 512 KiB that changes a hundred times a second is read a few times a second, which costs less than half of a core. What the fake
// agent in this process costs is included.
func TestWatchValue_LargeValueCostsABoundedShare(t *testing.T) {
	const rate, last = 100, 300
	var reads atomic.Int64
	data := make([]byte, registry.MaxValueSize)
	start := time.Now()
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := min(int(time.Since(start).Seconds()*rate), last)
		if index := fmt.Sprint(n + 10); r.URL.Query().Get("index") == index {
			<-r.Context().Done() // there is no other change
			return
		}
		reads.Add(1)
		value := append([]byte{}, data...)
		binary.BigEndian.PutUint64(value, uint64(n))
		says(200, fmt.Sprintf(`[{"Key":%q,"Value":%q,"ModifyIndex":%d}]`, valueKey, base64.StdEncoding.EncodeToString(value), n+10),
			"X-Consul-Index", fmt.Sprint(n+10), "X-Consul-LastContact", "0")(w, r)
	}))
	t.Cleanup(agent.Close)
	before := processorTime(t)
	w := watchtest.WatchValue(t, open(t, Config{Address: agent.URL}), valueKey)
	w.Until("the last value", func(p watchtest.ValuePair) bool {
		return p.Err == nil && binary.BigEndian.Uint64(p.Value.Data) == last
	})
	took, cpu := time.Since(start), processorTime(t)-before
	share := float64(cpu) / float64(took)
	t.Logf("%d changes in %v, %d reads, %d values, %.0f%% of a core", last, took.Round(time.Millisecond), reads.Load(), len(w.All()), 100*share)
	if most := int64(5*took.Seconds()) + 10; reads.Load() > most {
		t.Errorf("%d reads in %v, want %d at most", reads.Load(), took, most)
	}
	if share > 0.5 && !raced.Enabled { // the race detector multiplies it
		t.Errorf("it costs %.0f%% of a core", 100*share)
	}
}
