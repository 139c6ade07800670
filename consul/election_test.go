package consul

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/registry"
)

// electing is an agent whose servers have no leader for a while. Only those reads that come before break off.
type electing struct {
	lacks   int    // for how many times more that the leader is asked for
	refuses string // why nobody may know, in place of that
	breaks  bool   // so does each connection over which somebody asks

	mu    sync.Mutex
	asked []string
}

// RoundTrip implements [http.RoundTripper]: an agent without a network can be asked in testing/synctest.
func (e *electing) RoundTrip(r *http.Request) (*http.Response, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	w := httptest.NewRecorder()
	if r.URL.Path != "/v1/status/leader" {
		e.asked = append(e.asked, "read")
		if e.lacks > 0 || len(e.asked) == 1 {
			return nil, errors.New("broken")
		}
		w.Header().Set("X-Consul-Index", "5")
		fmt.Fprint(w, set("5", "a").body)
		return w.Result(), nil
	}
	e.asked = append(e.asked, strings.TrimSpace("leader "+r.URL.RawQuery))
	switch {
	case e.breaks:
		return nil, errors.New("broken")
	case e.refuses != "":
		http.Error(w, e.refuses, http.StatusForbidden)
	case e.lacks > 0:
		e.lacks--
		fmt.Fprint(w, `""`)
	default:
		fmt.Fprint(w, `"10.0.0.1:8300"`)
	}
	return w.Result(), nil
}

// driver returns one that asks the agent, and is closed with the test.
func (e *electing) driver(t *testing.T, c Config) *driver {
	t.Helper()
	clearEnvironment(t)
	d, err := newDriver(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	client, err := api.NewClient(&api.Config{HttpClient: &http.Client{Transport: capturing{e}}})
	if err != nil {
		t.Fatal(err)
	}
	d.client, d.agent.client = client, client
	return d
}

func TestAReadComesAfterTheElection(t *testing.T) {
	for _, c := range []struct {
		name   string
		agent  *electing
		config Config
		asks   []string
	}{
		{"none", &electing{}, Config{}, []string{"read", "leader", "read"}},
		{"a long one", &electing{lacks: 2}, Config{}, []string{"read", "leader", "leader", "leader", "read"}},
		{"of which nothing may be known", &electing{refuses: "Permission denied"}, Config{}, []string{"read", "leader", "read"}},
		{"which a read that may be stale does without", &electing{}, Config{Stale: true}, []string{"read", "read"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src := c.agent.driver(t, c.config).Follow(registry.Query{Service: "s"})
				if got := next(t, src); !strings.HasPrefix(got, "error: ") {
					t.Fatalf("got %q from a connection that breaks", got)
				}
				if got := next(t, src); got != "a" {
					t.Errorf("got %q", got)
				}
				if !slices.Equal(c.agent.asked, c.asks) {
					t.Errorf("the agent was asked for %q, want %q", c.agent.asked, c.asks)
				}
			})
		})
	}
}

// Who follows a thousand services asks for the leader no more often than who follows one, and hears no later that there is none.
func TestOneOfAllAsksForTheLeader(t *testing.T) {
	for _, c := range []struct {
		name    string
		agent   *electing
		each    string // what each gets, or the error that it holds
		leaders int
		reads   int
	}{
		{"in an election", &electing{lacks: 3}, "a", 4, 20},
		{"while there is nobody to ask", &electing{breaks: true}, "broken", 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := c.agent.driver(t, Config{})
				turn := d.agent.elections.in("").turn
				turn <- struct{}{} // until all of them ask
				for i := range 20 {
					go func() {
						src := d.follow(registry.Query{Service: fmt.Sprint("s", i)})
						src.lost = true
						if got := next(t, src); got != c.each && !strings.Contains(got, fmt.Sprintf("read service s%d: %s", i, c.each)) {
							t.Errorf("got %q, want %q", got, c.each)
						}
					}()
				}
				synctest.Wait()
				<-turn
				time.Sleep(time.Minute)
				synctest.Wait()
				want := slices.Concat(slices.Repeat([]string{"leader"}, c.leaders), slices.Repeat([]string{"read"}, c.reads))
				if !slices.Equal(c.agent.asked, want) {
					t.Errorf("the agent was asked for %q", c.agent.asked)
				}
			})
		})
	}
}

func TestAnElectionThatDoesNotEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		agent := &electing{lacks: 1000}
		src := agent.driver(t, Config{}).follow(registry.Query{Service: "s"})
		src.lost = true
		began := time.Now()
		_, err := src.Next(t.Context())
		if !errors.Is(err, registry.ErrUnavailable) || !lacksLeader(err) || !strings.Contains(err.Error(), "read service s") {
			t.Errorf("got %v", err)
		}
		if took := time.Since(began); took != DefaultTimeout {
			t.Errorf("it took %v, want that of any call", took)
		}
		// Five times a second or so.
		if n := len(agent.asked); n < 30 || n > 70 || slices.Contains(agent.asked, "read") {
			t.Errorf("the agent was asked for %q", agent.asked)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := src.Next(ctx); err != context.DeadlineExceeded {
			t.Errorf("got %v from a context that ends first", err)
		}
	})
}

// With Failover, one datacenter in an election does not keep the other from being read.
func TestEachDatacenterHasItsElection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		agent := &electing{lacks: 1}
		d := agent.driver(t, Config{Datacenter: "b"})
		d.agent.elections.in("a").turn <- struct{}{}
		src := d.follow(registry.Query{Service: "s"})
		src.lost = true
		if got := next(t, src); got != "a" || !slices.Equal(agent.asked, []string{"leader dc=b", "leader dc=b", "read"}) {
			t.Errorf("got %q, after %q", got, agent.asked)
		}
	})
}
