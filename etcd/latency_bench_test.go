package etcd

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
)

// BenchmarkChangeToWatcher measures the time from the beginning of a write to a watcher holding the set with it, at an etcd
// that is otherwise quiet. Each round measures a watch of this package and a bare watch of etcd's client, in turn. Run
//
//	go test -run '^$' -bench ChangeToWatcher -benchtime 100x ./etcd
//
// It reports the median of each in milliseconds, and ratio, ours to that of the bare watch.
func BenchmarkChangeToWatcher(b *testing.B) {
	server := testbed.StartEtcd(b)
	operator, other := operatorOf(b, server), operatorOf(b, server)
	r := connect(b, Config{Endpoints: []string{server.Addr()}})

	ours, bare := make(chan string), make(chan string)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{}, 2)
	defer func() { cancel(); <-done; <-done }()
	go func() {
		defer func() { done <- struct{}{} }()
		for set := range r.Watch(ctx, registry.Query{Service: "ours"}) {
			for _, in := range set {
				send(ctx, ours, in.Version)
			}
		}
	}()
	go func() {
		defer func() { done <- struct{}{} }()
		for answer := range other.Watch(ctx, DefaultPrefix+"bare/", clientv3.WithPrefix()) {
			for _, e := range answer.Events {
				var in registry.Instance
				if err := json.Unmarshal(e.Kv.Value, &in); err == nil {
					send(ctx, bare, in.Version)
				}
			}
		}
	}()

	change := func(service, version string, seen <-chan string) time.Duration {
		value := `{"id":"a","service":"` + service + `","address":"10.0.0.1:80","version":"` + version + `"}`
		began := time.Now()
		if _, err := operator.Put(within(b, patience), DefaultPrefix+service+"/a", value); err != nil {
			b.Fatal(err)
		}
		for {
			select {
			case v := <-seen:
				if v == version {
					return time.Since(began)
				}
			case <-time.After(patience):
				b.Fatalf("%s did not see the change within %v", service, patience)
			}
		}
	}
	// The storm of a benchmark is not what is measured: a watch that was quiet delivers at once.
	quiet := time.NewTicker(registry.DefaultSpacing + 50*time.Millisecond)
	defer quiet.Stop()
	<-quiet.C // both wait
	change("ours", "first", ours)
	change("bare", "first", bare)
	var tookOurs, tookBare []time.Duration
	b.ResetTimer()
	for i := range b.N {
		// Each is first in every other round.
		for j := range 2 {
			<-quiet.C
			if (i+j)%2 == 0 {
				tookOurs = append(tookOurs, change("ours", strconv.Itoa(i), ours))
			} else {
				tookBare = append(tookBare, change("bare", strconv.Itoa(i), bare))
			}
		}
	}
	mo, mb := median(tookOurs), median(tookBare)
	b.ReportMetric(0, "ns/op") // it would be the time between the rounds
	b.ReportMetric(mo.Seconds()*1e3, "ours-ms")
	b.ReportMetric(mb.Seconds()*1e3, "bare-ms")
	b.ReportMetric(float64(mo)/float64(mb), "ratio")
}

func send(ctx context.Context, to chan<- string, v string) {
	select {
	case to <- v:
	case <-ctx.Done():
	}
}

func median(d []time.Duration) time.Duration {
	d = slices.Sorted(slices.Values(d))
	return d[len(d)/2]
}
