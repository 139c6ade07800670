package main

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// TestRegister_LeavesWithoutAFailedCall calls two programs 500 times a second while one is told to leave. The program closes every
// connection as soon as it gets SIGTERM, so a call fails if the signal comes before the clients have noticed.
func TestRegister_LeavesWithoutAFailedCall(t *testing.T) {
	for _, backend := range []struct {
		name string
		url  func(*testing.T) string
	}{
		{"consul", func(t *testing.T) string { return "consul://" + testbed.StartConsul(t).Addr() }},
		{"etcd", func(t *testing.T) string { return "etcd://" + testbed.StartEtcd(t).Addr() }},
	} {
		t.Run(backend.name, func(t *testing.T) {
			url := backend.url(t)
			reg, err := openers.Open(t.Context(), url)
			if err != nil {
				t.Fatal(err)
			}
			defer reg.Close()
			var stops []func() result
			for _, id := range []string{"w1", "w2"} {
				address := freeAddress(t)
				stops = append(stops, startRegister(t, url, address, t.TempDir(), "--id", id, "--check", "http:/", "--drain-delay", "1s"))
				watchtest.Eventually(t, id+" is registered", func() bool { return registered(t, reg, address) })
			}
			c := startCaller(t, reg)
			watchtest.Eventually(t, "500 calls", func() bool { return c.made.Load() >= 500 })
			if got := stops[0](); got.code != 0 {
				t.Errorf("exit code %d: %s", got.code, got.stderr)
			}
			before := c.made.Load()
			watchtest.Eventually(t, "500 more calls", func() bool { return c.made.Load() >= before+500 })
			c.stop()
			if failed := c.failed.Load(); failed > 0 {
				t.Errorf("%d of %d calls failed, the first with: %v", failed, c.made.Load(), c.first.Load())
			}
		})
	}
}

func registered(t *testing.T, reg registry.Discovery, address string) bool {
	t.Helper()
	set, err := reg.Lookup(t.Context(), registry.Query{Service: "web"})
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range set {
		if in.Address == address {
			return true
		}
	}
	return false
}

// caller calls the instances of a service in turn, 500 times a second.
type caller struct {
	made, failed atomic.Int64
	first        atomic.Value // the first error, or status
	stop         func()
}

func startCaller(t *testing.T, reg *registry.Registry) *caller {
	t.Helper()
	c := &caller{}
	var set atomic.Pointer[[]*registry.Instance]
	next, end := make(chan struct{}), make(chan struct{})
	var work sync.WaitGroup
	work.Go(func() {
		for s := range reg.Watch(t.Context(), registry.Query{Service: "web"}) {
			set.Store(&s)
			select {
			case <-end:
				return
			default:
			}
		}
	})
	watchtest.Eventually(t, "both instances", func() bool { s := set.Load(); return s != nil && len(*s) == 2 })
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}, Timeout: 10 * time.Second}
	for range 8 {
		work.Go(func() {
			for range next {
				n := c.made.Add(1)
				all := *set.Load()
				resp, err := client.Get("http://" + all[int(n)%len(all)].Address)
				if err != nil {
					c.failed.Add(1)
					c.first.CompareAndSwap(nil, err.Error())
					continue
				}
				resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					c.failed.Add(1)
					c.first.CompareAndSwap(nil, resp.Status)
				}
			}
		})
	}
	work.Go(func() {
		defer close(next)
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				next <- struct{}{}
			case <-end:
				return
			}
		}
	})
	c.stop = sync.OnceFunc(func() {
		close(end)
		reg.Close() // ends the watch
		work.Wait()
		client.CloseIdleConnections()
	})
	t.Cleanup(c.stop)
	return c
}
