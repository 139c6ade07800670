package httpx_test

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/httpx"
	"github.com/rollcall-go/rollcall/registry"
)

func TestTransport_WeightedPolicy(t *testing.T) {
	inANetwork(t, func(n *network) {
		set := passing("a:1", "b:1", "c:1")
		for i, weight := range []int{5, 2, 1} {
			set[i].Weight = weight
			n.listen(set[i].Address, nil)
		}
		client := n.connected(&httpx.Transport{Policy: "weighted"}, set...)
		n.same("requests", count(client, 80), map[string]int{"a:1": 50, "b:1": 20, "c:1": 10})
		n.says(nil, passing("a:1", "b:1", "c:1")...)
		n.same("with equal weights", count(client, 30), map[string]int{"a:1": 10, "b:1": 10, "c:1": 10})
	})
}

// zones returns an instance at each address, whose zone is the first letter.
func zones(addresses ...string) []*registry.Instance {
	set := passing(addresses...)
	for _, in := range set {
		in.Zone = in.Address[:1]
	}
	return set
}

func TestTransport_ZonePolicy(t *testing.T) {
	for _, c := range []struct {
		away, failing int // instances of the own zone that cannot be dialled, and that do not pass
		stay          int // requests of 1,000 that stay there
	}{{0, 0, 1000}, {0, 1, 1000}, {0, 2, 714}, {2, 0, 714}, {1, 1, 714}, {0, 4, 0}} {
		inANetwork(t, func(n *network) {
			set := zones("a1:1", "a2:1", "a3:1", "a4:1", "b1:1", "b2:1", "b3:1", "b4:1", "b5:1", "b6:1")
			for i, in := range set {
				if i >= c.away {
					n.listen(in.Address, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, in.Zone) })
				}
				if i >= 4-c.failing && i < 4 {
					in.Status = registry.Critical
				}
			}
			client := n.connected(&httpx.Transport{Policy: "zone", Zone: "a", PanicThreshold: 0.3}, set...)
			count(client, 100) // find out which are away
			got := count(client, 1000)
			if got["a"] < c.stay-3 || got["a"] > c.stay+3 || got["failed"] > 0 {
				n.Errorf("with %d away and %d failing of 4: %v, want %d to stay", c.away, c.failing, got, c.stay)
			}
		})
	}
}

func TestTransport_ZoneFromTheEnvironment(t *testing.T) {
	t.Setenv(httpx.ZoneVariable, "b")
	inANetwork(t, func(n *network) {
		n.listen("a1:1", nil)
		n.listen("b1:1", nil)
		client := n.connected(&httpx.Transport{Policy: "zone"}, zones("a1:1", "b1:1")...)
		n.same("requests", count(client, 10), map[string]int{"b1:1": 10})
	})
}

func TestTransport_P2CAvoidsSlowInstances(t *testing.T) {
	inANetwork(t, func(n *network) {
		for _, a := range []string{"a:1", "b:1", "c:1"} {
			n.listen(a, func(w http.ResponseWriter, _ *http.Request) {
				time.Sleep(time.Millisecond)
				if a == "c:1" {
					time.Sleep(50 * time.Millisecond)
				}
				fmt.Fprint(w, a)
			})
		}
		client := n.connected(&httpx.Transport{Policy: "p2c"}, passing("a:1", "b:1", "c:1")...)
		if got := count(client, 300); got["c:1"] > 10 {
			n.Errorf("requests: %v", got)
		}
	})
}

func TestTransport_P2CCountsGatewayErrorsAndTimeoutsAsSlow(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"502": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "c:1", http.StatusBadGateway) },
		"503": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "c:1", http.StatusServiceUnavailable) },
		"504": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "c:1", http.StatusGatewayTimeout) },
		"timeout": func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
		},
	} {
		inANetwork(t, func(n *network) {
			slow := func(w http.ResponseWriter, _ *http.Request) { time.Sleep(time.Millisecond) }
			n.listen("a:1", slow)
			n.listen("b:1", slow)
			c := n.listen("c:1", handler)
			client := &http.Client{Transport: n.transport(&httpx.Transport{Policy: "p2c"}), Timeout: time.Second}
			n.ask(client, passing("a:1", "b:1", "c:1")...)
			count(client, 300)
			if got := c.requests.Load(); got > 20 {
				n.Errorf("%s: the instance got %d of 300 requests", name, got)
			}
		})
	}
}

func TestTransport_P2CCountsOutstandingRequests(t *testing.T) {
	inANetwork(t, func(n *network) {
		goOn := make(chan bool)
		hang := func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush()
			<-goOn
		}
		a, b := n.listen("a:1", hang), n.listen("b:1", hang)
		client := n.connected(&httpx.Transport{Policy: "p2c", Select: nil}, passing("c:1")...)
		n.says(nil, passing("a:1", "b:1")...)
		for range 20 {
			resp, err := client.Get("http://greeter/")
			if err != nil {
				n.Fatal(err)
			}
			defer resp.Body.Close()
		}
		if a.requests.Load() != 10 || b.requests.Load() != 10 {
			n.Errorf("the instances have %d and %d requests whose bodies were not read", a.requests.Load(), b.requests.Load())
		}
		close(goOn)
		synctest.Wait()
	})
}
