package consul

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/consul/internal/codec"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// replay answers every read with a body, without a network in between.
type replay struct{ body []byte }

func (r *replay) RoundTrip(*http.Request) (*http.Response, error) {
	h := http.Header{}
	h.Set("X-Consul-Index", "10")
	h.Set("X-Consul-LastContact", "0")
	h.Set("X-Consul-KnownLeader", "true")
	return &http.Response{StatusCode: http.StatusOK, Header: h, Body: io.NopCloser(bytes.NewReader(r.body))}, nil
}

// record returns what a real agent answers for a service of n instances.
func record(b *testing.B, n int) []byte {
	agent := testbed.StartConsul(b)
	operator := operatorOf(b, agent)
	for i := range n {
		err := operator.Agent().ServiceRegister(&api.AgentServiceRegistration{
			ID: fmt.Sprintf("web:web-10.1.%d.%d-8080", i/256, i%256), Name: "web", Address: fmt.Sprintf("10.1.%d.%d", i/256, i%256), Port: 8080,
			Tags:    []string{"http", "blue"},
			Meta:    map[string]string{"version": "1.4.2", "zone": "eu-1a", codec.MetaOwner: "ABCDEFGHIJKLMNOPQRSTUVWXYZ"},
			Weights: &api.AgentWeights{Passing: 1, Warning: 1},
			Check:   &api.AgentServiceCheck{CheckID: fmt.Sprint("rollcall:web:", i), Name: "Rollcall", TTL: "10m", Status: api.HealthPassing},
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	for deadline := time.Now().Add(watchtest.Timeout); ; {
		resp, err := http.Get("http://" + agent.Addr() + "/v1/health/service/web?passing=1")
		if err != nil {
			b.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			b.Fatal(err)
		}
		if strings.Count(string(body), `"Service":{`) == n {
			return body
		}
		if time.Now().After(deadline) {
			b.Fatalf("the catalog does not have %d instances", n)
		}
	}
}

// BenchmarkAnswer measures what an answer of 1,000 instances costs a source whose last answer was none, an answer with one other
// instance, or the same answer. Each round measures the source and Health().Service of consul/api, in turn.
// Run
//
//	go test -run '^$' -bench Answer -benchtime 30x ./consul
//
// It reports the medians of both in milliseconds, and two ratios of the source to consul/api: of time and of allocations.
func BenchmarkAnswer(b *testing.B) {
	b.Setenv(api.HTTPAddrEnvName, "")
	const n = 1000
	body := record(b, n)
	changed := bytes.Replace(body, []byte("1.4.2"), []byte("1.4.3"), n/2)
	changed = bytes.Replace(changed, []byte("1.4.3"), []byte("1.4.2"), n/2-1)
	if len(changed) != len(body) || bytes.Equal(changed, body) {
		b.Fatal("there is no second body with one change")
	}
	for _, c := range []struct {
		name   string
		bodies [2][]byte // in turn
		fresh  bool
	}{
		{"First", [2][]byte{body, body}, true},
		{"OneChanged", [2][]byte{body, changed}, false},
		{"Unchanged", [2][]byte{body, body}, false},
	} {
		b.Run(c.name, func(b *testing.B) {
			from := new(replay)
			theirs, err := api.NewClient(&api.Config{Address: "127.0.0.1:1", HttpClient: &http.Client{Transport: from}})
			if err != nil {
				b.Fatal(err)
			}
			d, err := newDriver(Config{Address: "127.0.0.1:1"})
			if err != nil {
				b.Fatal(err)
			}
			defer d.Close()
			if err := d.agent.SetTransport(from); err != nil {
				b.Fatal(err)
			}
			q := registry.Query{Service: "web"}
			src := &source{reader: reader{d: d}, query: q}
			readTheirs := func() {
				if got, _, err := theirs.Health().Service("web", "", true, nil); err != nil || len(got) != n {
					b.Fatal(len(got), err)
				}
			}
			readOurs := func() {
				if got, err := src.read(context.Background(), 0, false); err != nil || len(got.set) != n {
					b.Fatal(len(got.set), err)
				}
			}
			from.body = c.bodies[1]
			readOurs()
			var took, allocs [2][]float64
			b.ResetTimer()
			for i := range b.N {
				from.body = c.bodies[i%2]
				if c.fresh {
					src = &source{reader: reader{d: d}, query: q}
				}
				for side, read := range []func(){readOurs, readTheirs} {
					ms, count := cost(read)
					took[side], allocs[side] = append(took[side], ms), append(allocs[side], count)
				}
			}
			ours, bare := middle(took[0]), middle(took[1])
			b.ReportMetric(ours, "ours-ms")
			b.ReportMetric(bare, "api-ms")
			b.ReportMetric(ours/bare, "time-ratio")
			b.ReportMetric(middle(allocs[0])/middle(allocs[1]), "alloc-ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// cost returns the milliseconds and the allocations that f takes.
func cost(f func()) (ms, allocs float64) {
	runtime.GC() // so that neither collects the other's garbage
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := time.Now()
	f()
	ms = float64(time.Since(began)) / float64(time.Millisecond)
	runtime.ReadMemStats(&after)
	return ms, float64(after.Mallocs - before.Mallocs)
}

func middle(x []float64) float64 {
	slices.Sort(x)
	return x[len(x)/2]
}
