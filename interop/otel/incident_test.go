package otel_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/metric"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/rollcall-go/rollcall/consul"
	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/rollcallotel"
	"github.com/rollcall-go/rollcall/statuspage"
)

const managementToken = "5f1f9a9e-6c0f-4e6c-9d3c-1f4a8f2f0b11"

// TestInstrument_TellsIncidentsOnConsul makes a server, a client, the metrics and the status page of one process go through four incidents. In each
// the page, the metrics and `rollcall watch` say what happened.
func TestInstrument_TellsIncidentsOnConsul(t *testing.T) {
	agent := testbed.StartConsul(t, testbed.ConsulOptions{
		Token: managementToken,
		Config: fmt.Sprintf(`acl = { enabled = true, default_policy = "deny", tokens = { initial_management = %q, agent = %q } }`,
			managementToken, managementToken),
	})
	i := &incident{T: t, agent: agent}
	i.token = i.newToken()
	i.runProgram()
	i.runCommand()
	i.wait("all is well", func() bool {
		return i.metrics()["registration.count{greeter,registered}"] == 1 && i.metrics()["watch.state{greeter,current}"] == 1 &&
			strings.Contains(i.page(), "greeter") && strings.Contains(i.output(), "+ greeter-1")
	})

	i.say("the agent is killed", agent.Kill, map[string]func() bool{
		"metrics": func() bool {
			m := i.metrics()
			return m["registration.count{greeter,lost}"] == 1 && m["watch.state{greeter,stale}"] == 1 && m["watch.set_age{greeter}"] > 0
		},
		"page":  func() bool { p := i.page(); return strings.Contains(p, "lost for") && strings.Contains(p, "stale") },
		"watch": func() bool { return strings.Contains(i.output(), "unavailable") },
	})
	agent.Restart(true)
	i.wait("all is well", func() bool {
		return i.metrics()["registration.count{greeter,registered}"] == 1 && i.metrics()["watch.state{greeter,current}"] == 1
	})

	// Clients keep the instance for a grace period, since no other is left. The command shows what the registry has.
	i.say("all instances are critical", func() { i.setCheck("fail") }, map[string]func() bool{
		"metrics": func() bool { return i.metrics()["watch.state{greeter,withheld}"] == 1 },
		"page":    func() bool { return strings.Contains(i.page(), "withheld") },
		"watch":   func() bool { return strings.Contains(i.output(), "- greeter-1") },
	})
	i.wait("a heartbeat makes it pass", func() bool { return i.metrics()["watch.state{greeter,current}"] == 1 })

	i.say("the agent loses its data, and with it the token", func() { agent.Restart(false) }, map[string]func() bool{
		"metrics": func() bool {
			m := i.metrics()
			return m["registration.count{greeter,denied}"] == 1 || m["registration.count{greeter,lost}"] == 1
		},
		"page":  func() bool { return strings.Contains(i.page(), "registrations") },
		"watch": func() bool { return strings.Contains(i.output(), "denied") },
	})
	i.say("the registration is denied", func() {}, map[string]func() bool{
		"metrics": func() bool {
			m := i.metrics()
			return m["registration.count{greeter,denied}"] == 1 && m["watch.failures{greeter,denied}"] > 0
		},
		"page": func() bool { return strings.Contains(i.page(), "denied") },
	})
}

// incident is the process of the test, and what looks at it.
type incident struct {
	*testing.T
	agent  *testbed.Consul
	token  string
	reader *metric.ManualReader
	pages  http.Handler

	mu   sync.Mutex
	text bytes.Buffer // what the command has written
}

// call makes a call to the agent, as its operator.
func (i *incident) call(method, path, body string) []byte {
	i.Helper()
	req, err := http.NewRequestWithContext(watchtest.Context(i.T), method, "http://"+i.agent.Addr()+path, strings.NewReader(body))
	if err != nil {
		i.Fatal(err)
	}
	req.Header.Set("X-Consul-Token", managementToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		i.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		i.Fatalf("%s %s: %d %s, %v", method, path, resp.StatusCode, answer, err)
	}
	return answer
}

// newToken returns a token with which the process may do its work.
func (i *incident) newToken() string {
	i.call(http.MethodPut, "/v1/acl/policy", `{"Name":"greeter","Rules":"service \"greeter\" { policy = \"write\" } node_prefix \"\" { policy = \"read\" }"}`)
	var token struct{ SecretID string }
	if err := json.Unmarshal(i.call(http.MethodPut, "/v1/acl/token", `{"Policies":[{"Name":"greeter"}]}`), &token); err != nil {
		i.Fatal(err)
	}
	return token.SecretID
}

// setCheck changes the status of the instance's check until its next heartbeat.
func (i *incident) setCheck(status string) {
	var checks map[string]struct{ ServiceName string }
	if err := json.Unmarshal(i.call(http.MethodGet, "/v1/agent/checks", ""), &checks); err != nil {
		i.Fatal(err)
	}
	for id, check := range checks {
		if check.ServiceName == "greeter" {
			i.call(http.MethodPut, "/v1/agent/check/"+status+"/"+id, "")
		}
	}
}

// runProgram runs the program that the test looks at: a server and a client of a service, with metrics and a status page.
func (i *incident) runProgram() {
	t := i.T
	reg, err := consul.New(consul.Config{Address: i.agent.Addr(), Token: registry.NewSecret(i.token)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reg.Close() })
	i.reader = metric.NewManualReader()
	stop, err := rollcallotel.Instrument(reg, rollcallotel.Config{MeterProvider: metric.NewMeterProvider(metric.WithReader(i.reader))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop() })
	i.pages = statuspage.Handler(statuspage.Config{}, reg)

	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	server := grpcx.Server{Registrar: reg, Instance: registry.Instance{Service: "greeter", ID: "greeter-1"}, DrainDelay: -1}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, grpc.NewServer(), lis) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})

	conn, err := grpcx.NewClient("rollcall:///greeter", reg, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	watchtest.Eventually(t, "a call succeeds", func() bool {
		_, err := healthpb.NewHealthClient(conn).Check(watchtest.Context(t), new(healthpb.HealthCheckRequest))
		return err == nil
	})
}

// runCommand runs `rollcall watch greeter --changes` until the test ends.
func (i *incident) runCommand() {
	binary := filepath.Join(i.TempDir(), "rollcall")
	build := exec.Command("go", "build", "-o", binary, "./cmd/rollcall")
	build.Dir = "../.."
	if text, err := build.CombinedOutput(); err != nil {
		i.Fatalf("%v: %s", err, text)
	}
	ctx, cancel := context.WithCancel(context.Background())
	command := exec.CommandContext(ctx, binary, "watch", "greeter", "--changes", "-r", "consul://"+i.agent.Addr())
	command.Env = append(os.Environ(), "CONSUL_HTTP_TOKEN="+i.token)
	out, err := command.StdoutPipe()
	if err != nil {
		i.Fatal(err)
	}
	command.Stderr = command.Stdout
	if err := command.Start(); err != nil {
		i.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			i.mu.Lock()
			fmt.Fprintln(&i.text, lines.Text())
			i.mu.Unlock()
		}
	}()
	i.Cleanup(func() {
		cancel()
		<-read
		command.Wait()
	})
}

// output returns what the command has written since the last incident.
func (i *incident) output() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.text.String()
}

// page returns the status page.
func (i *incident) page() string {
	w := httptest.NewRecorder()
	i.pages.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	return w.Body.String()
}

// metrics returns the current values of all series.
func (i *incident) metrics() map[string]float64 {
	f := &fixture{T: i.T, reader: i.reader}
	return f.read()
}

func (i *incident) wait(what string, ok func() bool) {
	i.Helper()
	watchtest.Eventually(i.T, what, ok)
}

// say lets an incident happen, and waits until each of the places says so. It logs how long that took.
func (i *incident) say(what string, happen func(), places map[string]func() bool) {
	i.Helper()
	i.mu.Lock()
	i.text.Reset()
	i.mu.Unlock()
	happen()
	began := time.Now()
	for place, says := range places {
		i.wait(what+": "+place, says)
		i.Logf("%s: %s after %v at the latest", what, place, time.Since(began).Round(10*time.Millisecond))
	}
}
