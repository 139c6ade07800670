package watchtest

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// Latency measures the time from a change in a store until a watcher has it, for a watch of this module and for a bare watch with the
// store's own client.
type Latency struct {
	// Write makes change n of a service, and returns when the measured time begins. A number is used once for each service.
	Write func(service string, n int) time.Time
	// Number returns the number of the change that wrote an instance.
	Number func(*registry.Instance) int
	// Bare watches a service with the store's own client until ctx ends, and calls seen with the number of each change.
	Bare func(ctx context.Context, service string, seen func(n int))
}

// Run measures b.N changes at a store that is otherwise quiet. Each round measures both watches, in turn. It reports the median of each
// in milliseconds, and their ratio: the median of the watch of d divided by the median of the bare watch.
func (l Latency) Run(b *testing.B, d registry.Discovery) {
	const oursService, bareService = "ours", "bare"
	ours, bare := make(chan int), make(chan int)
	ctx, cancel := context.WithCancel(context.Background())
	var watches sync.WaitGroup
	defer func() { cancel(); watches.Wait() }()
	sender := func(to chan<- int) func(int) {
		return func(n int) {
			select {
			case to <- n:
			case <-ctx.Done():
			}
		}
	}
	watches.Go(func() {
		for set := range d.Watch(ctx, registry.Query{Service: oursService}) {
			for _, in := range set {
				sender(ours)(l.Number(in))
			}
		}
	})
	watches.Go(func() { l.Bare(ctx, bareService, sender(bare)) })

	measure := func(service string, n int, seen <-chan int) time.Duration {
		began := l.Write(service, n)
		for Receive(b, "the change of "+service, seen) != n {
		}
		return time.Since(began)
	}
	// A watch that was quiet for longer than its spacing yields a change at once.
	quiet := time.NewTicker(registry.DefaultSpacing + 50*time.Millisecond)
	defer quiet.Stop()
	<-quiet.C // both watches wait for a change from here on
	measure(oursService, 1, ours)
	measure(bareService, 1, bare)
	var tookOurs, tookBare []time.Duration
	b.ResetTimer()
	for i := range b.N {
		for j := range 2 { // each is the first in every other round
			<-quiet.C
			if (i+j)%2 == 0 {
				tookOurs = append(tookOurs, measure(oursService, i+2, ours))
			} else {
				tookBare = append(tookBare, measure(bareService, i+2, bare))
			}
		}
	}
	mo, mb := median(tookOurs), median(tookBare)
	b.ReportMetric(0, "ns/op") // it would be the time between the rounds
	b.ReportMetric(mo.Seconds()*1e3, "ours-ms")
	b.ReportMetric(mb.Seconds()*1e3, "bare-ms")
	b.ReportMetric(float64(mo)/float64(mb), "ratio")
}

func median(d []time.Duration) time.Duration {
	d = slices.Sorted(slices.Values(d))
	return d[len(d)/2]
}
