package consul

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// slow makes the test wait for a minute or two until Consul removes the instance. Otherwise the test removes it:
//
//	go test -v -run Paused ./consul -slow
var slow = flag.Bool("slow", false, "wait until Consul removes instances by itself")

// pauseVariable has the address of an agent. If it is set, the test binary is a process that registers an instance there.
const pauseVariable = "ROLLCALL_TEST_PAUSED"

// pausedService is what that process runs.
func pausedService(address string) {
	ctx, cancel := context.WithCancel(context.Background())
	r, err := New(Config{Address: address, TTL: minTTL, Options: registry.Options{Logger: slog.New(slog.DiscardHandler)}})
	if err == nil {
		_, err = r.Register(ctx, registry.Instance{ID: "a", Service: "s", Address: "h:1"})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_, _ = io.Copy(io.Discard, os.Stdin) // until the test ends it
	cancel()
	r.Close()
}

// A process may be paused for so long that Consul removes its instance, as on a laptop. The instance is back when the process goes on.
func TestRegistration_ReturnsAfterALongPause(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	operator := operatorOf(t, agent)
	w := watchtest.Watch(t, open(t, Config{Address: agent.Addr()}), registry.Query{Service: "s", AnyStatus: true})

	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), pauseVariable+"="+agent.Addr())
	child.Stderr = os.Stderr
	stop, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		child.Process.Signal(sigContinue)
		stop.Close()
		if err := child.Wait(); err != nil {
			t.Error(err)
		}
	})
	passes := statusIs(registry.Passing)
	w.Until("the instance", passes)

	if err := child.Process.Signal(sigStop); err != nil {
		t.Fatal(err)
	}
	paused := time.Now()
	w.Until("that it is critical", statusIs(registry.Critical))
	gone := func() bool {
		services, err := operator.Agent().Services()
		return err == nil && len(services) == 0
	}
	if *slow {
		for !gone() { // which takes longer than watchtest.Eventually waits
			if time.Since(paused) > 5*time.Minute {
				t.Fatal("Consul has not removed it")
			}
			time.Sleep(time.Second)
		}
		t.Logf("Consul has removed it after %v", time.Since(paused).Round(time.Second))
	} else if err := operator.Agent().ServiceDeregister("s:a"); err != nil {
		t.Fatal(err)
	}
	w.Until("that it is gone", func(p watchtest.Pair) bool { return p.Find("a") == nil })

	on := time.Now()
	if err := child.Process.Signal(sigContinue); err != nil {
		t.Fatal(err)
	}
	w.Until("the instance again", passes)
	t.Logf("it is back %v after the process goes on", time.Since(on).Round(time.Millisecond))
	var checks map[string]*api.AgentCheck
	if checks, err = operator.Agent().Checks(); err != nil || len(checks) != 1 {
		t.Errorf("%d checks, want the check of the instance: %v", len(checks), err)
	}
}
