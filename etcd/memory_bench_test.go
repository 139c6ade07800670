package etcd

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/etcd/internal/format"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// BenchmarkMemory measures the memory of a watch for each instance of its set: the set, and what is kept to read the next change. The metadata
// of all instances are equal, or each has its own pod and start time as well. Run
//
//	go test -run '^$' -bench Memory -benchtime 3x ./etcd
func BenchmarkMemory(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		for _, own := range []bool{false, true} {
			name := fmt.Sprint("Equal-", n)
			if own {
				name = fmt.Sprint("Own-", n)
			}
			b.Run(name, func(b *testing.B) {
				server := startScripted(b)
				fill := func(service string, n int) {
					for i := range n {
						in := registry.Instance{
							ID: fmt.Sprintf("%s-10.1.%d.%d-8080", service, i/256, i%256), Service: service, Address: fmt.Sprintf("10.1.%d.%d:8080", i/256, i%256),
							Version: "1.4.2", Zone: "eu-1a", Tags: []string{"http", "blue"}, Weight: 1,
							Metadata: map[string]string{"build": "4711", "commit": "9fceb02d0ae598e95dc970b74767f19372d61af8", "team": "payments"},
						}
						if own {
							in.Metadata["pod"] = fmt.Sprintf("web-6d4cf56db6-%05d", i)
							in.Metadata["started"] = time.Unix(1.7e9+int64(i)*7, 0).UTC().Format(time.RFC3339)
						}
						value, err := format.ByName[format.Rollcall].Encode(&in)
						if err != nil {
							b.Fatal(err)
						}
						server.put(DefaultPrefix+service+"/"+in.ID, string(value))
					}
				}
				fill("few", 1)
				fill("web", n)
				var sizes []float64
				for range b.N {
					r := openWith(b, Config{Endpoints: []string{server.addr}})
					sizes = append(sizes, watchtest.InstanceSize(b, r, "few", "web", n))
					r.Close()
				}
				slices.Sort(sizes)
				b.ReportMetric(sizes[len(sizes)/2], "B/instance") // the first round can free what an earlier benchmark has left
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}
