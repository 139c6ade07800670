package clientstate_test

import (
	"encoding/json"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/clientstate"
)

// only returns the state of the only client.
func only(t *testing.T) clientstate.State {
	t.Helper()
	all := clientstate.All()
	if len(all) != 1 {
		t.Fatalf("there are %d clients, want 1: %+v", len(all), all)
	}
	return all[0]
}

func TestClient_IsListedUntilItIsRemoved(t *testing.T) {
	c := clientstate.Add(clientstate.State{Kind: clientstate.GRPC, Target: "rollcall:///web", Service: "web", Discovery: t})
	if s := only(t); s.Service != "web" || s.Discovery != t || s.Since.IsZero() {
		t.Errorf("got %+v", s)
	}
	c.Set(3, true, "the registry is down")
	if s := only(t); s.Endpoints != 3 || !s.Panicking || s.Error != "the registry is down" || s.Target != "rollcall:///web" {
		t.Errorf("got %+v", s)
	}
	c.Remove()
	c.Set(1, false, "") // late, as by another goroutine
	c.Remove()
	if all := clientstate.All(); len(all) != 0 {
		t.Errorf("left: %+v", all)
	}
}

func TestClient_IsFreedWhenItIsRemoved(t *testing.T) {
	freed := make(chan struct{})
	func() {
		discovery := new([1 << 10]byte)
		runtime.AddCleanup(discovery, func(freed chan struct{}) { close(freed) }, freed)
		clientstate.Add(clientstate.State{Discovery: discovery}).Remove()
	}()
	deadline := time.Now().Add(30 * time.Second)
	for {
		runtime.GC()
		select {
		case <-freed:
			return
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("the list keeps a client that was removed")
		}
	}
}

func TestClient_SinceIsWhenItsConditionChanged(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := clientstate.Add(clientstate.State{})
		defer c.Remove()
		for _, step := range []struct {
			endpoints int
			panicking bool
			reason    string
			changed   bool
		}{
			{2, false, "", true},
			{3, false, "", false},
			{3, true, "", true},
			{4, true, "", false},
			{4, true, "down", true},
			{4, true, "still down", false},
			{4, false, "", true},
			{0, false, "gone", true},
		} {
			time.Sleep(time.Minute)
			before := only(t).Since
			c.Set(step.endpoints, step.panicking, step.reason)
			if since := only(t).Since; since.After(before) != step.changed || step.changed && !since.Equal(time.Now()) {
				t.Errorf("after %+v it is since %v; it was since %v", step, since, before)
			}
		}
	})
}

func TestState_Condition(t *testing.T) {
	for want, s := range map[clientstate.Condition]clientstate.State{
		clientstate.Waiting:   {},
		clientstate.Failing:   {Error: "down", Panicking: true},
		clientstate.Panicking: {Endpoints: 1, Panicking: true, Error: "down"},
		clientstate.Stale:     {Endpoints: 1, Error: "down"},
		clientstate.Ready:     {Endpoints: 1},
	} {
		if got := s.Condition(); got != want {
			t.Errorf("%+v is %q, want %q", s, got, want)
		}
	}
}

func TestAll_IsSorted(t *testing.T) {
	for _, s := range []clientstate.State{
		{Service: "b", Kind: clientstate.HTTP, Target: "x"}, {Service: "b", Kind: clientstate.GRPC, Target: "y"},
		{Service: "b", Kind: clientstate.GRPC, Target: "x"}, {Service: "a", Kind: clientstate.HTTP, Target: "z"},
	} {
		defer clientstate.Add(s).Remove()
	}
	got := ""
	for _, s := range clientstate.All() {
		got += s.Service + string(s.Kind) + s.Target + " "
	}
	if got != "ahttpz bgrpcx bgrpcy bhttpx " {
		t.Errorf("got %s", got)
	}
}

func TestNotify_IsCalledOncePerChange(t *testing.T) {
	calls := 0
	stop := clientstate.Notify(func() { calls++ })
	c := clientstate.Add(clientstate.State{})
	c.Set(1, false, "")
	c.Set(1, false, "") // the same
	c.Remove()
	stop()
	clientstate.Add(clientstate.State{}).Remove()
	if calls != 3 {
		t.Errorf("%d calls, want 3", calls)
	}
}

func TestClient_IsSafeForConcurrentUse(t *testing.T) {
	defer clientstate.Notify(func() {})()
	var work sync.WaitGroup
	for range 8 {
		work.Go(func() {
			for i := range 100 {
				c := clientstate.Add(clientstate.State{})
				c.Set(i, i%2 == 0, "")
				_ = clientstate.All()
				c.Remove()
			}
		})
	}
	work.Wait()
}

func TestState_JSON(t *testing.T) {
	for want, s := range map[string]clientstate.State{
		`{"kind":"http","target":"http://web","service":"web","endpoints":0,"since":"2000-01-01T00:00:00Z"}`: {
			Kind: clientstate.HTTP, Target: "http://web", Service: "web", Discovery: t},
		`{"kind":"grpc","target":"t","service":"s","registry":"r","policy":"p","endpoints":2,"subset":3,"panicking":true,"error":"e","since":"2000-01-01T00:00:00Z"}`: {
			Kind: clientstate.GRPC, Target: "t", Service: "s", Registry: "r", Policy: "p", Endpoints: 2, Subset: 3, Panicking: true, Error: "e"},
	} {
		s.Since = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
		if got, err := json.Marshal(s); err != nil || string(got) != want {
			t.Errorf("got %s, %v, want %s", got, err, want)
		}
	}
}
