package consul

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
)

// slow lets Consul itself do what it takes a minute or two for, where otherwise the test does it in its place:
//
//	go test -v -run 'Paused|Catalog' ./consul -slow
var slow = flag.Bool("slow", false, "wait until Consul removes and restores instances by itself")

// pauseVariable makes the test binary a process that announces an instance at the agent that it names.
const pauseVariable = "ROLLCALL_TEST_PAUSED"

// pausedService is what that process announces.
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

// A process that was paused for longer than Consul keeps its instance, as a laptop or a virtual machine is, is back when it
// goes on.
func TestPausedForLongerThanItsInstanceIsKept(t *testing.T) {
	agent := testbed.StartConsul(t)
	operator := operatorOf(t, agent)
	w := watch(t, open(t, Config{Address: agent.Addr()}), registry.Query{Service: "s", AnyStatus: true})

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
		child.Process.Signal(syscall.SIGCONT)
		stop.Close()
		if err := child.Wait(); err != nil {
			t.Error(err)
		}
	})
	passes := statusIs(registry.Passing)
	w.until("the instance", passes)

	if err := child.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	paused := time.Now()
	w.until("that it is critical", statusIs(registry.Critical))
	gone := func() bool {
		services, err := operator.Agent().Services()
		return err == nil && len(services) == 0
	}
	if *slow {
		for !gone() { // which takes longer than eventually waits
			if time.Since(paused) > 5*time.Minute {
				t.Fatal("Consul has not removed it")
			}
			time.Sleep(time.Second)
		}
		t.Logf("Consul has removed it after %v", time.Since(paused).Round(time.Second))
	} else if err := operator.Agent().ServiceDeregister("s:a"); err != nil {
		t.Fatal(err)
	}
	w.until("that it is gone", func(p pair) bool { return p.find("a") == nil })

	on := time.Now()
	if err := child.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	w.until("the instance again", passes)
	t.Logf("it is back %v after the process goes on", time.Since(on).Round(time.Millisecond))
	var checks map[string]*api.AgentCheck
	if checks, err = operator.Agent().Checks(); err != nil || len(checks) != 1 {
		t.Errorf("%d checks, want that of the instance: %v", len(checks), err)
	}
}
