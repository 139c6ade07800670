package consul

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
)

const (
	stormSize    = 2000
	stormService = "storm"
	stormEnv     = "ROLLCALL_STORM_CLIENT" // which client a process is, and the address of its agent
)

// BenchmarkStorm registers 2,000 instances with a real agent and deregisters them, one by one. A watch of this package and a bare loop of
// blocking queries read the service meanwhile, each in a process of its own. Run
//
//	go test -run '^$' -bench Storm -benchtime 1x ./consul
//
// It reports the processor time of each process in seconds, and cpu-ratio: the time of the watch divided by the time of the loop. late-ms
// is how much later than the loop the watch has the last set, which is empty; full-late-ms is the same for the set of all instances.
func BenchmarkStorm(b *testing.B) {
	b.Setenv(api.HTTPAddrEnvName, "")
	for range b.N {
		agent := testbed.StartConsul(b)
		operator := keptAlive(b, agent)
		ours, bare := startStormClient(b, "ours", agent), startStormClient(b, "bare", agent)
		ours.until(0)
		bare.until(0)
		began := time.Now()
		id := func(i int) string { return fmt.Sprintf("%s-%d", stormService, i) }
		for i := range stormSize {
			err := operator.Agent().ServiceRegister(&api.AgentServiceRegistration{
				ID: id(i), Name: stormService, Address: fmt.Sprintf("10.1.%d.%d", i/256, i%256), Port: 8080, Tags: []string{"http", "blue"},
				Meta:  map[string]string{"version": "1.4.2", "zone": "eu-1a"},
				Check: &api.AgentServiceCheck{TTL: "10m", Status: api.HealthPassing},
			})
			if err != nil {
				b.Fatal(err)
			}
		}
		full := bare.until(stormSize)
		fullOurs := ours.until(stormSize)
		for i := range stormSize {
			if err := operator.Agent().ServiceDeregister(id(i)); err != nil {
				b.Fatal(err)
			}
		}
		empty := bare.until(0)
		emptyOurs := ours.until(0)
		took := time.Since(began)
		cpuOurs, cpuBare := ours.end(), bare.end()
		b.ReportMetric(took.Seconds(), "storm-s")
		b.ReportMetric(cpuOurs.Seconds(), "ours-cpu-s")
		b.ReportMetric(cpuBare.Seconds(), "bare-cpu-s")
		b.ReportMetric(cpuOurs.Seconds()/cpuBare.Seconds(), "cpu-ratio")
		b.ReportMetric(fullOurs.Sub(full).Seconds()*1e3, "full-late-ms")
		b.ReportMetric(emptyOurs.Sub(empty).Seconds()*1e3, "late-ms")
	}
	b.ReportMetric(0, "ns/op")
}

// stormProcess is a client in a process of its own. It prints the size of each set, and when the set arrived.
type stormProcess struct {
	b     *testing.B
	cmd   *exec.Cmd
	stop  io.Closer // its input
	lines *bufio.Scanner
}

func startStormClient(b *testing.B, client string, agent *testbed.Consul) *stormProcess {
	b.Helper()
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	p := &stormProcess{b: b, cmd: exec.Command(self)}
	p.cmd.Env = append(os.Environ(), stormEnv+"="+client+" "+agent.Addr())
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if p.stop, err = p.cmd.StdinPipe(); err != nil {
		b.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			p.end()
		}
	})
	p.lines = bufio.NewScanner(out)
	return p
}

// until waits until the process has a set of that size, and returns when the set arrived. It skips earlier sets.
func (p *stormProcess) until(size int) time.Time {
	p.b.Helper()
	for p.lines.Scan() {
		var n int
		var at int64
		if _, err := fmt.Sscan(p.lines.Text(), &n, &at); err != nil {
			p.b.Fatalf("%q: %v", p.lines.Text(), err)
		}
		if n == size {
			return time.Unix(0, at)
		}
	}
	p.b.Fatalf("the client has ended before it had %d instances: %v", size, p.lines.Err())
	return time.Time{}
}

// end ends the process, and returns the processor time that it took.
func (p *stormProcess) end() time.Duration {
	p.stop.Close()
	for p.lines.Scan() { // so that it is not delayed by writing
	}
	if err := p.cmd.Wait(); err != nil {
		p.b.Error(err)
	}
	return p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
}

// stormClient is the main function of such a process. It returns when its input ends.
func stormClient(which string) {
	client, address, _ := strings.Cut(which, " ")
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	printSize := func(n int) { fmt.Println(n, time.Now().UnixNano()) }
	fail := func(err error) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if client == "bare" {
		c, err := api.NewClient(&api.Config{Address: address})
		if err != nil {
			fail(err)
		}
		bareLoop(ctx, c, stormService, func(entries []*api.ServiceEntry) { printSize(len(entries)) })
		return
	}
	r, err := New(Config{Address: address, Options: registry.Options{Logger: slog.New(slog.DiscardHandler)}})
	if err != nil {
		fail(err)
	}
	defer r.Close()
	for set, err := range r.Watch(ctx, registry.Query{Service: stormService}) {
		if err != nil {
			fail(err)
		}
		printSize(len(set))
	}
}
