package httpx_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/httpx"
	"github.com/rollcall-go/rollcall/registry"
)

func TestTransport_AllCriticalAtOnceGoesOn(t *testing.T) {
	inANetwork(t, func(n *network) {
		n.listen("a:1", nil)
		n.listen("b:1", nil)
		client := n.connected(nil, passing("a:1", "b:1")...)
		count(client, 4)
		n.says(nil, critical("a:1", "b:1")...)
		n.same("with all critical", count(client, 10), map[string]int{"a:1": 5, "b:1": 5})
		if n.dialled("a:1") != 1 || n.dialled("b:1") != 1 {
			n.Errorf("instances that do not pass were dialled: %v", n.dials)
		}
		state := client.Transport.(*httpx.Transport).Snapshot().Services[0]
		if !state.Panicking || state.Instances[0].Restriction != "failing" || state.Query.AnyStatus {
			n.Errorf("the snapshot has %+v", state)
		}
		n.says(nil, append(passing("a:1"), critical("b:1")...)...)
		n.same("with one of two critical", count(client, 10), map[string]int{"a:1": 10})
	})
}

func TestTransport_NewClientDialsCriticalInstancesAsALastResort(t *testing.T) {
	inANetwork(t, func(n *network) {
		n.listen("a:1", nil)
		client := n.connected(nil, critical("a:1", "b:1")...)
		n.same("requests", count(client, 10), map[string]int{"a:1": 10})
	})
}

func TestTransport_DoesNotDialAgainWhatDoesNotPass(t *testing.T) {
	inANetwork(t, func(n *network) {
		a := n.listen("a:1", nil)
		n.listen("b:1", nil)
		client := n.connected(nil, passing("a:1", "b:1")...)
		count(client, 4)
		n.says(nil, critical("a:1", "b:1")...)
		n.crash(a)
		taken := n.listen("a:1", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "another service") })
		n.same("after a crash", count(client, 10), map[string]int{"b:1": 10})
		n.crash(n.servers["b:1"])
		_, err := get(client)
		if text := fmt.Sprint(err); !strings.Contains(text, "unavailable") && !strings.Contains(text, "EOF") {
			n.Errorf("the request fails with %v", err)
		}
		_, err = get(client)
		failsWith(n.T, err, registry.ErrUnavailable, "greeter", "a script", "made again only when its instance passes")
		if got := taken.requests.Load(); got != 0 || n.dialled("a:1") != 1 {
			n.Errorf("the other service got %d requests; the address was dialled %d times", got, n.dialled("a:1"))
		}
		n.says(nil, append(passing("a:1"), critical("b:1")...)...)
		n.same("when it passes again", count(client, 2), map[string]int{"another service": 2})
	})
}

func TestTransport_RequestsWaitForAConnectionToWhatDoesNotPass(t *testing.T) {
	inANetwork(t, func(n *network) {
		answer := make(chan bool)
		n.listen("a:1", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				<-answer
			}
			fmt.Fprint(w, "a:1")
		})
		client := n.connected(nil, passing("a:1")...)
		n.says(nil, critical("a:1")...)
		results := make(chan error, 10)
		slow := func() {
			_, err := read(client.Get("http://greeter/slow"))
			results <- err
		}
		for range 3 {
			go slow()
		}
		synctest.Wait()
		for range 3 { // one after another on the only connection
			answer <- true
			if err := <-results; err != nil {
				n.Error(err)
			}
		}
		go slow()
		synctest.Wait()
		began := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://greeter/", nil)
		if err != nil {
			n.Fatal(err)
		}
		if _, err := read(client.Do(req)); err == nil || time.Since(began) != time.Second {
			n.Errorf("after %v the request with a deadline ends with %v", time.Since(began), err)
		}
		cancel()
		began = time.Now()
		_, err = get(client)
		failsWith(n.T, err, registry.ErrUnavailable, "no instance passes")
		if got := time.Since(began); got != 5*time.Second {
			n.Errorf("the request without a deadline waits %v", got)
		}
		go func() {
			_, err := get(client)
			results <- err
		}()
		synctest.Wait()
		n.says(nil, passing("a:1")...) // may be dialled now
		if err := <-results; err != nil {
			n.Error(err)
		}
		answer <- true
		<-results
		if got := n.dialled("a:1"); got != 2 {
			n.Errorf("it was dialled %d times", got)
		}
	})
}

func TestTransport_EmptySetKeepsConnectionsForAWhile(t *testing.T) {
	inANetwork(t, func(n *network) {
		n.listen("a:1", nil)
		n.listen("b:1", nil)
		client := n.connected(&httpx.Transport{}, passing("a:1", "b:1", "c:1")...)
		count(client, 6)
		dialled := n.dialled("c:1")
		n.says(nil)
		n.same("in the grace period", count(client, 10), map[string]int{"a:1": 5, "b:1": 5})
		if n.dialled("c:1") != dialled || !client.Transport.(*httpx.Transport).Snapshot().Services[0].InGrace {
			n.Errorf("an instance that has left was dialled: %v", n.dials)
		}
		time.Sleep(emptyGrace / 2)
		n.same("later", count(client, 10), map[string]int{"a:1": 5, "b:1": 5})
		time.Sleep(emptyGrace / 2)
		synctest.Wait()
		_, err := get(client)
		failsWith(n.T, err, registry.ErrUnavailable, "no passing instance is registered")
		for _, s := range n.servers {
			if got := s.opened.Load(); got != 0 {
				n.Errorf("%s has %d connections", s.address, got)
			}
		}
		n.says(nil, passing("a:1")...)
		n.same("when it is registered again", count(client, 2), map[string]int{"a:1": 2})
	})
}

const emptyGrace = 30 * time.Second // the default

func TestTransport_DrainedInstanceIsALastResort(t *testing.T) {
	inANetwork(t, func(n *network) {
		a, _ := n.listen("a:1", nil), n.listen("b:1", nil)
		set := passing("a:1", "b:1")
		set[1].Weight = registry.Drained
		client := n.connected(nil, set...)
		n.same("with a weight", count(client, 4), map[string]int{"a:1": 4})
		n.crash(a)
		got := count(client, 10)
		n.same("without", got, map[string]int{"b:1": 10})
		maintenance := passing("a:1", "b:1")
		maintenance[1].Status = registry.Maintenance
		n.listen("a:1", nil)
		n.says(nil, maintenance...)
		n.same("in maintenance", count(client, 10), map[string]int{"a:1": 10})
	})
}

func TestTransport_Subset(t *testing.T) {
	inANetwork(t, func(n *network) {
		var addresses []string
		for i := range 10 {
			addresses = append(addresses, fmt.Sprintf("s%d:1", i))
			n.listen(addresses[i], nil)
		}
		client := n.connected(&httpx.Transport{Subset: 3, ClientID: "me"}, passing(addresses...)...)
		if got := count(client, 30); len(got) != 3 {
			n.Errorf("requests went to %v", got)
		}
	})
}
