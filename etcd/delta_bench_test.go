//go:build unix

package etcd

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"

	"github.com/rollcall-go/rollcall/etcd/internal/etcdtest"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// BenchmarkOneOf20000 measures the cost of one event in a service of 20,000 instances: for a watch of this package, until the application has
// the set, and for a watch that reads the whole prefix after each event. It reports the bytes of the received messages, and the CPU time
// of the process including the write. Run
//
//	go test -run '^$' -bench OneOf20000 -benchtime 50x ./etcd
func BenchmarkOneOf20000(b *testing.B) {
	const many = 20_000
	server := testbed.StartEtcd(b)
	operator := etcdtest.Operator(b, server)
	value := func(i int, version string) string {
		return fmt.Sprintf(`{"id":"i%05d","service":"s","address":"10.0.0.1:%d","version":%q,"zone":"z1","tags":["a","b"],`+
			`"metadata":{"build":"4711","shard":"%d"},"weight":1}`, i, 1+i%65535, version, i%16)
	}
	key := func(i int) string { return fmt.Sprintf("%ss/i%05d", DefaultPrefix, i) }
	for i := 0; i < many; i += 100 {
		var ops []clientv3.Op
		for j := range 100 {
			ops = append(ops, clientv3.OpPut(key(i+j), value(i+j, "0")))
		}
		if _, err := operator.Txn(watchtest.Context(b)).Then(ops...).Commit(); err != nil {
			b.Fatal(err)
		}
	}
	written := 0 // the harness runs each function several times, and what is written again as it was is no event
	// measure changes one instance after another, each when the one before was seen.
	measure := func(b *testing.B, bytes *received, seen func(i int, version string)) {
		before, cpu := bytes.Load(), cpuTime()
		for i := range b.N {
			written++
			version := fmt.Sprint(written)
			if _, err := operator.Put(watchtest.Context(b), key(i%many), value(i%many, version)); err != nil {
				b.Fatal(err)
			}
			seen(i%many, version)
		}
		b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N)/1e6, "cpu-ms/event")
		b.ReportMetric(float64(bytes.Load()-before)/float64(b.N), "B/event")
	}
	b.Run("ours", func(b *testing.B) {
		bytes := new(received)
		// Unpaced: the cost of each event, not of several at once.
		r := openWith(b, Config{
			Endpoints: []string{server.Addr()}, Options: registry.Options{Spacing: 1, SpacingPerInstance: 1},
		}, grpc.WithStatsHandler(bytes))
		ctx, cancel := context.WithCancel(context.Background())
		sets := make(chan []*registry.Instance)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for set := range r.Watch(ctx, registry.Query{Service: "s"}) {
				select {
				case sets <- set:
				case <-ctx.Done():
				}
			}
		}()
		defer func() { cancel(); <-done }()
		<-sets
		b.ResetTimer()
		measure(b, bytes, func(i int, version string) {
			for {
				if set := watchtest.Receive(b, "the event", sets); len(set) == many && set[i].Version == version {
					return
				}
			}
		})
	})
	b.Run("whole-prefix", func(b *testing.B) {
		bytes := new(received)
		client, err := clientv3.New(clientv3.Config{
			Endpoints: []string{server.Addr()}, DialOptions: []grpc.DialOption{grpc.WithStatsHandler(bytes)},
		})
		if err != nil {
			b.Fatal(err)
		}
		defer client.Close()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		events := client.Watch(ctx, DefaultPrefix+"s/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
		<-events
		b.ResetTimer()
		measure(b, bytes, func(i int, version string) {
			<-events
			got, err := client.Get(ctx, DefaultPrefix+"s/", clientv3.WithPrefix())
			if err != nil {
				b.Fatal(err)
			}
			set := make([]*registry.Instance, 0, len(got.Kvs))
			for _, kv := range got.Kvs {
				in := new(registry.Instance)
				if err := json.Unmarshal(kv.Value, in); err != nil {
					b.Fatal(err)
				}
				set = append(set, in)
			}
			if len(set) != many || set[i].Version != version {
				b.Fatal("the event is not in the set")
			}
		})
	})
}

// received counts the bytes of the messages that came.
type received struct{ atomic.Int64 }

func (r *received) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

func (r *received) HandleRPC(_ context.Context, s stats.RPCStats) {
	if in, ok := s.(*stats.InPayload); ok {
		r.Add(int64(in.WireLength))
	}
}

func (r *received) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

func (r *received) HandleConn(context.Context, stats.ConnStats) {}

// cpuTime is what this process has used so far.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
