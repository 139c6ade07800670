package consul

import (
	"context"
	"net"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
)

// foreign is a registration as other tools write it. Its port tells one from the next.
func foreign(service string, port int) *api.AgentServiceRegistration {
	return &api.AgentServiceRegistration{Name: service, Port: port}
}

// BenchmarkChangeToWatcher measures the time from a registration returning to a watcher holding the set with it, at an agent
// that is otherwise quiet. Each round measures a watch of this package and a bare loop of blocking queries, in turn. Run
//
//	go test -run '^$' -bench ChangeToWatcher -benchtime 50x ./consul
//
// It reports the median of each in milliseconds, and ratio, ours to that of the bare loop.
func BenchmarkChangeToWatcher(b *testing.B) {
	agent := testbed.StartConsul(b)
	operator := operatorOf(b, agent)
	r := open(b, Config{Address: agent.Addr()})

	ours, bare := make(chan int), make(chan int)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{}, 2)
	defer func() { cancel(); <-done; <-done }()
	go func() {
		defer func() { done <- struct{}{} }()
		for set := range r.Watch(ctx, registry.Query{Service: "ours"}) {
			for _, in := range set {
				_, port, _ := net.SplitHostPort(in.Address)
				n, _ := strconv.Atoi(port)
				send(ctx, ours, n)
			}
		}
	}()
	go func() {
		defer func() { done <- struct{}{} }()
		bareLoop(ctx, operatorOf(b, agent), "bare", func(entries []*api.ServiceEntry) {
			for _, e := range entries {
				send(ctx, bare, e.Service.Port)
			}
		})
	}()

	change := func(service string, port int, seen <-chan int) time.Duration {
		if err := operator.Agent().ServiceRegister(foreign(service, port)); err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		for {
			select {
			case n := <-seen:
				if n == port {
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
	var tookOurs, tookBare []time.Duration
	change("ours", 1, ours) // the first instance is there, and both wait
	change("bare", 1, bare)
	b.ResetTimer()
	for i := range b.N {
		// Each is first in every other round.
		for j := range 2 {
			<-quiet.C
			if (i+j)%2 == 0 {
				tookOurs = append(tookOurs, change("ours", i+2, ours))
			} else {
				tookBare = append(tookBare, change("bare", i+2, bare))
			}
		}
	}
	mo, mb := median(tookOurs), median(tookBare)
	b.ReportMetric(0, "ns/op") // it would be the time between the rounds
	b.ReportMetric(mo.Seconds()*1e3, "ours-ms")
	b.ReportMetric(mb.Seconds()*1e3, "bare-ms")
	b.ReportMetric(float64(mo)/float64(mb), "ratio")
}

// bareLoop is what a program without a library does: nothing but the next blocking query.
func bareLoop(ctx context.Context, client *api.Client, service string, f func([]*api.ServiceEntry)) {
	var index uint64
	for ctx.Err() == nil {
		entries, meta, err := client.Health().Service(service, "", true, (&api.QueryOptions{WaitIndex: index, WaitTime: DefaultWait}).WithContext(ctx))
		if err != nil {
			index = 0
			continue
		}
		index = meta.LastIndex
		f(entries)
	}
}

func send(ctx context.Context, to chan<- int, n int) {
	select {
	case to <- n:
	case <-ctx.Done():
	}
}

func median(d []time.Duration) time.Duration {
	d = slices.Sorted(slices.Values(d))
	return d[len(d)/2]
}
