//go:build unix

package consul

import (
	"syscall"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
)

// BenchmarkConnectionLimit measures what 360 quiet watches over plain HTTP cost, of which an agent could serve 200 at once, and how soon they
// see a change. Run
//
//	go test -run '^$' -bench ConnectionLimit -benchtime 1x ./consul
//
// It reports the processor time that the client takes in a quiet second, and of 120 changes the median and the latest, all in
// milliseconds.
func BenchmarkConnectionLimit(b *testing.B) {
	b.Setenv("CONSUL_HTTP_ADDR", "")
	agent := testbed.StartConsul(b)
	w := watchMany(b, agent, Config{Address: agent.Addr()}, watchCount)
	const quiet = 10 * time.Second
	for i := range b.N {
		used := processorTime(b)
		watchtest.Lasts(b, time.Now(), quiet)
		used = processorTime(b) - used
		took := w.changeSome(2 + i)
		b.ReportMetric(used.Seconds()*1e3/quiet.Seconds(), "cpu-ms/s")
		b.ReportMetric(took[len(took)/2].Seconds()*1e3, "median-ms")
		b.ReportMetric(took[len(took)-1].Seconds()*1e3, "latest-ms")
	}
	b.ReportMetric(0, "ns/op")
}

// processorTime returns the processor time of this process so far.
func processorTime(b testing.TB) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
