// Package greeter_test runs the greeter's server and client programs as a user would, on a real Consul.
package greeter_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/rollcall-go/rollcall/examples/greeting"
	"github.com/rollcall-go/rollcall/examples/internal/load"
	_ "github.com/rollcall-go/rollcall/grpcx/consulscheme"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
)

// A longer outage gives the same result: go test -run RestartsEmpty ./examples/greeter -outage 1m
var outage = flag.Duration("outage", 2*time.Second, "how long the registry is down under load")

func build(t *testing.T, program string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), program)
	if out, err := exec.Command("go", "build", "-o", path, "./"+program).CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return path
}

// server is a process of the server program.
type server struct {
	address string
	cmd     *exec.Cmd
}

// startProgram starts a program that ends with the test, and returns its standard error.
func startProgram(t *testing.T, path string, args ...string) (*exec.Cmd, io.Reader) {
	t.Helper()
	cmd := exec.Command(path, args...)
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	return cmd, out
}

// startServer returns when the server has logged its address.
func startServer(t *testing.T, path, registryURL string) *server {
	t.Helper()
	cmd, out := startProgram(t, path, "-registry", registryURL, "-drain", "300ms")
	s := &server{cmd: cmd}
	address := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if _, rest, ok := strings.Cut(lines.Text(), "address="); ok {
				select {
				case address <- strings.Fields(rest)[0]:
				default:
				}
			}
		}
	}()
	s.address = watchtest.Receive(t, "the address of the server in its log", address)
	return s
}

func (s *server) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// passing returns how many passing greeters the agent knows, and -1 while it does not answer.
func passing(agent string) int {
	resp, err := http.Get("http://" + agent + "/v1/health/service/" + greeting.Service + "?passing=1")
	if err != nil {
		return -1
	}
	defer resp.Body.Close()
	var entries []json.RawMessage
	if resp.StatusCode != http.StatusOK || json.NewDecoder(resp.Body).Decode(&entries) != nil {
		return -1
	}
	return len(entries)
}

// fleet has three servers on a real Consul, and a client that calls them all the time until the test ends.
type fleet struct {
	agent   *testbed.Consul
	program string
	servers []*server
	calls   *load.Calls
	stop    context.CancelFunc
	begun   time.Time
}

const rate = 600

func startFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{agent: testbed.StartConsul(t), program: build(t, "server")}
	for range 3 {
		f.servers = append(f.servers, f.start(t))
	}
	watchtest.Eventually(t, "three servers in the registry", func() bool { return passing(f.agent.Addr()) == 3 })
	conn, err := grpc.NewClient("consul://"+f.agent.Addr()+"/"+greeting.Service,
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(), grpc.WithDisableRetry(),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	ctx, cancel := context.WithCancel(t.Context())
	f.begun, f.stop = time.Now(), cancel
	if f.calls, err = load.Start(ctx, conn, rate); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); f.calls.Wait() })
	for _, s := range f.servers {
		f.answers(t, s)
	}
	return f
}

func (f *fleet) start(t *testing.T) *server {
	return startServer(t, f.program, "consul://"+f.agent.Addr())
}

func (f *fleet) answers(t *testing.T, s *server) {
	t.Helper()
	before := f.calls.Answered(s.address)
	watchtest.Eventually(t, s.address+" to answer", func() bool { return f.calls.Answered(s.address) >= before+100 })
}

func (f *fleet) goesOn(t *testing.T, calls int) {
	t.Helper()
	before, _, _ := f.calls.Count()
	watchtest.Eventually(t, "more calls", func() bool { n, _, _ := f.calls.Count(); return n >= before+calls })
}

func (f *fleet) wantNoFailure(t *testing.T) {
	t.Helper()
	if _, failed, first := f.calls.Count(); failed > 0 {
		t.Fatalf("%d calls failed: %v", failed, first)
	}
}

func (f *fleet) end(t *testing.T) {
	f.stop()
	f.calls.Wait()
	total, _, _ := f.calls.Count()
	t.Logf("%d calls, %.0f a second:\n%s", total, float64(total)/time.Since(f.begun).Seconds(), f.calls.Table())
}

func TestFleet_LosesNoCallInRollingRestart(t *testing.T) {
	f := startFleet(t)
	for i, s := range f.servers {
		s.signal(t, syscall.SIGTERM)
		if err := s.cmd.Wait(); err != nil {
			t.Fatalf("after SIGTERM: %v", err)
		}
		f.servers[i] = f.start(t)
		f.answers(t, f.servers[i])
		f.wantNoFailure(t)
	}

	killed := f.servers[0]
	killed.signal(t, syscall.SIGKILL)
	killed.cmd.Wait()
	f.goesOn(t, 2*rate)
	f.end(t)
	failed := f.calls.Failed()
	inFlight := failed[killed.address]
	delete(failed, killed.address)
	if len(failed) > 0 {
		t.Errorf("calls failed that were not in flight to the server that was killed: %v", failed)
	}
	t.Logf("%d calls in flight to the killed server failed", inFlight)
	if inFlight > rate/10 {
		t.Errorf("%d calls failed on the server that was killed, more than can have been in flight", inFlight)
	}
}

func TestFleet_LosesNoCallIfAgentRestartsEmpty(t *testing.T) {
	f := startFleet(t)
	f.agent.Kill()
	for until := time.Now().Add(*outage); time.Now().Before(until); {
		f.goesOn(t, rate/10)
	}
	back := make(chan time.Duration, 1)
	go func() { // measures from the first answer of the agent, which comes before Restart returns
		for passing(f.agent.Addr()) < 0 {
			time.Sleep(time.Millisecond)
		}
		answers := time.Now()
		for passing(f.agent.Addr()) != 3 {
			time.Sleep(time.Millisecond)
		}
		back <- time.Since(answers)
	}()
	f.agent.Restart(false)
	took := watchtest.Receive(t, "all 3 instances in the wiped agent", back)
	t.Logf("every instance was back %v after the agent answered", took.Round(time.Millisecond))
	f.goesOn(t, 2*rate)
	for _, s := range f.servers {
		f.answers(t, s)
	}
	f.wantNoFailure(t)
	f.end(t)
}

// All checks may fail at once if the network is overloaded, or a deployment breaks what the checks test.
func TestFleet_CallsInstancesIfAllAreCritical(t *testing.T) {
	f := startFleet(t)
	resp, err := http.Get("http://" + f.agent.Addr() + "/v1/agent/checks")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var checks map[string]json.RawMessage
	if err := json.NewDecoder(resp.Body).Decode(&checks); err != nil || len(checks) != 3 {
		t.Fatalf("the agent has %d checks, %v", len(checks), err)
	}
	// The servers send heartbeats, which set their checks to passing again soon.
	for deadline := time.Now().Add(watchtest.Timeout); passing(f.agent.Addr()) != 0; {
		if time.Now().After(deadline) {
			t.Fatal("the agent still has instances that pass")
		}
		for id := range checks {
			q, err := http.NewRequest(http.MethodPut, "http://"+f.agent.Addr()+"/v1/agent/check/fail/"+url.PathEscape(id), nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(q)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		}
	}
	f.goesOn(t, rate)
	watchtest.Eventually(t, "all to pass again", func() bool { return passing(f.agent.Addr()) == 3 })
	f.goesOn(t, rate)
	f.wantNoFailure(t)
	f.end(t)
}

func TestClientProgram_PrintsAnswers(t *testing.T) {
	agent := testbed.StartConsul(t)
	s := startServer(t, build(t, "server"), "consul://"+agent.Addr())
	watchtest.Eventually(t, "the server in the registry", func() bool { return passing(agent.Addr()) == 1 })
	cmd := exec.Command(build(t, "client"), "-rate", "200", "-for", "1s")
	cmd.Env = append(os.Environ(), "ROLLCALL_REGISTRY=consul://"+agent.Addr())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(string(out), s.address) || strings.Contains(string(out), "error:") {
		t.Errorf("it says\n%s", out)
	}
}

func TestPrograms_RefuseURLThatCannotBeOpened(t *testing.T) {
	for _, program := range []string{"server", "client"} {
		out, err := exec.Command(build(t, program), "-registry", "zookeeper://user:hunter2@h").CombinedOutput()
		if err == nil || !strings.Contains(string(out), "consul, etcd, memory") || strings.Contains(string(out), "hunter2") {
			t.Errorf("%s says %v\n%s", program, err, out)
		}
	}
}

// nowhere is the URL of a registry that does not answer: its port is taken, and nothing listens there.
func nowhere(t *testing.T) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return "consul://" + c.LocalAddr().String()
}

func TestServerProgram_DoesNotClaimToBeRegisteredWithoutRegistry(t *testing.T) {
	cmd, out := startProgram(t, build(t, "server"), "-registry", nowhere(t), "-drain", "10ms")
	var all strings.Builder
	failed := false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		all.WriteString(lines.Text() + "\n")
		if !failed && strings.Contains(lines.Text(), "connection refused") {
			failed = true
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
	for _, claim := range []string{"rollcall: registered", "rollcall: deregistered", "rollcall: drained"} {
		if !failed || strings.Contains(all.String(), claim) {
			t.Errorf("without a registry it says %q:\n%s", claim, &all)
		}
	}
}

func TestClientProgram_FailsIfNoCallSucceeds(t *testing.T) {
	out, err := exec.Command(build(t, "client"), "-registry", nowhere(t), "-rate", "5", "-for", "2s").CombinedOutput()
	if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("it ended with %v", err)
	}
	for _, want := range []string{"a call failed", "calls succeeded", "connection refused"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
}
