//go:build unix

package httpx_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/httpx"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

// BenchmarkIdle has the CPU time that a process spends in each second in which nothing happens, while it watches 1,000 services with 3
// instances each and has a connection to each instance. The servers and the registry are
// in the process too.
func BenchmarkIdle(b *testing.B) {
	const services, instances = 1000, 3
	reg, err := memory.NewWith(memory.Config{TTL: 24 * time.Hour}) // no lease is renewed meanwhile: that is the work of servers
	if err != nil {
		b.Fatal(err)
	}
	defer reg.Close()
	var servers []*httptest.Server
	for range instances {
		s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		defer s.Close()
		servers = append(servers, s)
	}
	client := httpx.NewClient(reg)
	defer client.Transport.(*httpx.Transport).Close()
	for i := range services {
		name := fmt.Sprintf("service-%d", i)
		for _, s := range servers {
			watchtest.Register(b, reg, registry.Instance{Service: name, Address: s.Listener.Addr().String()})
		}
		for range instances {
			if _, err := read(client.Get("http://" + name + "/")); err != nil {
				b.Fatal(err)
			}
		}
	}
	runtime.GC()
	var spent, lasted time.Duration
	for b.Loop() {
		before, began := consumed(b), time.Now()
		time.Sleep(10 * time.Second)
		spent, lasted = spent+consumed(b)-before, lasted+time.Since(began)
	}
	b.ReportMetric(float64(spent.Microseconds())/lasted.Seconds(), "µs-CPU/s")
	b.ReportMetric(float64(runtime.NumGoroutine()), "goroutines")
	b.ReportMetric(0, "ns/op")
}

// consumed returns the CPU time of this process.
func consumed(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
