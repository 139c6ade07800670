package callotel

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/rollcall-go/rollcall/internal/bubble"
)

// numbers collects the counts by the values of their attributes, such as "greeter 1.0 OK".
func numbers(c *counts) map[string]int64 {
	all := map[string]int64{}
	c.observe(time.Now(), func(n int64, o metric.MeasurementOption) {
		attrs := metric.NewObserveConfig([]metric.ObserveOption{o}).Attributes()
		name := ""
		for _, key := range []string{"service.peer.name", "rollcall.instance.version", "rollcall.query", "rpc.response.status_code"} {
			for _, a := range attrs.ToSlice() {
				if string(a.Key) == key {
					name += " " + a.Value.String()
				}
			}
		}
		all[name[1:]] += n
	})
	return all
}

func expectNumbers(t *testing.T, c *counts, want map[string]int64) {
	t.Helper()
	if got := numbers(c); !maps.Equal(got, want) {
		t.Errorf("the counts are %v, want %v", got, want)
	}
}

var ok = grpcOutcome(nil)

func TestCounts_BoundServicesAndVersions(t *testing.T) {
	c := newCounts(2, 3)
	for i := range 5 {
		c.add(fmt.Sprint("s", i), "1", "", ok)
		c.add("s0", fmt.Sprint(i), "", ok)
	}
	c.add("s0", noVersion, "", ok)
	expectNumbers(t, c, map[string]int64{
		"s0 1 OK": 2, "s0 0 OK": 1, "s0 2 OK": 1, "s0 _other OK": 2, "s0 _none OK": 1,
		"s1 1 OK": 1, "_other 1 OK": 3,
	})
}

func TestCounts_BoundQueries(t *testing.T) {
	c := newCounts(2, 3)
	for i := range 2 * maxQueries {
		c.add("s", "1", fmt.Sprint("tag=", i), ok)
	}
	got := numbers(c)
	if len(got) != maxQueries+1 || got["s 1 _other OK"] != maxQueries {
		t.Errorf("the counts are %v, want %d queries and _other", got, maxQueries)
	}
}

// A client that lives through many rollouts always counts the newest version by name.
func TestCounts_ForgetUnusedVersions(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCounts(2, 3)
		for i := range 10 {
			version := fmt.Sprint(i)
			c.add("s", version, "", ok)
			numbers(c)
			time.Sleep(unusedAfter / 2)
			if i == 0 {
				c.add("s", "0", "", ok) // its newest call counts
			}
			if got := numbers(c); got["s "+version+" OK"] == 0 || got["s _other OK"] > 0 || len(got) > 3 {
				t.Errorf("after version %d the counts are %v, want it and at most two more", i, got)
			}
		}
	})
}

// A version in use is not forgotten, even if no collection has seen its newest calls.
func TestCounts_KeepUsedVersions(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCounts(2, 2)
		c.add("s", "1", "", ok)
		c.add("s", "2", "", ok)
		numbers(c)
		time.Sleep(2 * unusedAfter)
		c.add("s", "1", "", ok)
		c.add("s", "2", "", ok)
		c.add("s", "3", "", ok)
		expectNumbers(t, c, map[string]int64{"s 1 OK": 2, "s 2 OK": 2, "s _other OK": 1})
	})
}

func TestCounts_LoseNoConcurrentCall(t *testing.T) {
	c := newCounts(3, 3)
	var group sync.WaitGroup
	const goroutines, calls = 8, 500
	for range goroutines {
		group.Go(func() {
			for i := range calls {
				c.add(fmt.Sprint(i%5), fmt.Sprint(i%7), "", ok)
				if i%100 == 0 {
					numbers(c)
				}
			}
		})
	}
	group.Wait()
	sum := int64(0)
	for _, n := range slices.Collect(maps.Values(numbers(c))) {
		sum += n
	}
	if sum != goroutines*calls {
		t.Errorf("%d calls are counted, want %d", sum, goroutines*calls)
	}
}
