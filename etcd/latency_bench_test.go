package etcd

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rollcall-go/rollcall/etcd/internal/etcdtest"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// BenchmarkChangeToWatcher measures the time from the start of a write until a watcher has the set with it, for a watch of this package
// and for a watch of etcd's client. Run
//
//	go test -run '^$' -bench ChangeToWatcher -benchtime 100x ./etcd
//
// See [watchtest.Latency] for what it reports.
func BenchmarkChangeToWatcher(b *testing.B) {
	server := testbed.StartEtcd(b)
	operator, other := etcdtest.Operator(b, server), etcdtest.Operator(b, server)
	number := func(in *registry.Instance) int {
		n, _ := strconv.Atoi(in.Version)
		return n
	}
	watchtest.Latency{
		Write: func(service string, n int) time.Time {
			value := fmt.Sprintf(`{"id":"a","service":%q,"address":"10.0.0.1:80","version":"%d"}`, service, n)
			began := time.Now()
			if _, err := operator.Put(watchtest.Context(b), DefaultPrefix+service+"/a", value); err != nil {
				b.Fatal(err)
			}
			return began
		},
		Number: number,
		Bare: func(ctx context.Context, service string, seen func(int)) {
			for answer := range other.Watch(ctx, DefaultPrefix+service+"/", clientv3.WithPrefix()) {
				for _, e := range answer.Events {
					var in registry.Instance
					if err := json.Unmarshal(e.Kv.Value, &in); err == nil {
						seen(number(&in))
					}
				}
			}
		},
	}.Run(b, connect(b, Config{Endpoints: []string{server.Addr()}}))
}
