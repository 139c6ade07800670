package consul

import (
	"context"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// foreign is a registration as other tools write it. Each has another port.
func foreign(service string, port int) *api.AgentServiceRegistration {
	return &api.AgentServiceRegistration{Name: service, Port: port}
}

// BenchmarkChangeToWatcher measures the time from the end of a registration until a watcher has the set with it, for a watch of this
// package and for a bare loop of blocking queries. Run
//
//	go test -run '^$' -bench ChangeToWatcher -benchtime 50x ./consul
//
// See [watchtest.Latency] for what it reports.
func BenchmarkChangeToWatcher(b *testing.B) {
	agent := testbed.StartConsul(b)
	operator, other := operatorOf(b, agent), operatorOf(b, agent)
	watchtest.Latency{
		Write: func(service string, n int) time.Time {
			if err := operator.Agent().ServiceRegister(foreign(service, n)); err != nil {
				b.Fatal(err)
			}
			return time.Now()
		},
		Number: func(in *registry.Instance) int {
			_, port, _ := net.SplitHostPort(in.Address)
			n, _ := strconv.Atoi(port)
			return n
		},
		Bare: func(ctx context.Context, service string, seen func(int)) {
			bareLoop(ctx, other, service, func(entries []*api.ServiceEntry) {
				for _, e := range entries {
					seen(e.Service.Port)
				}
			})
		},
	}.Run(b, open(b, Config{Address: agent.Addr()}))
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
