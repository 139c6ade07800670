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

	agentpkg "github.com/rollcall-go/rollcall/consul/internal/agent"
	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/registry"
)

// electing is an agent whose servers have no leader for a while. The first read breaks off, and so does every read until there is a leader.
type electing struct {
	lacks  int              // for how many times more that the leader is asked for
	breaks bool             // so does each connection over which the leader is asked for
	says   http.HandlerFunc // in place of the leader
	mu     sync.Mutex       // guards what is below, and lacks
	asked  []string
}

// RoundTrip implements [http.RoundTripper]: an agent without a network can be asked in testing/synctest.
func (e *electing) RoundTrip(r *http.Request) (*http.Response, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	w := httptest.NewRecorder()
	if r.URL.Path != "/v1/status/leader" {
		what := "read"
		if r.URL.Query().Has("consistent") {
			what = "consistent read"
		}
		e.asked = append(e.asked, what)
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
	case e.says != nil:
		e.says(w, r)
	case e.lacks > 0:
		e.lacks--
		fmt.Fprint(w, `""`)
	default:
		fmt.Fprint(w, `"10.0.0.1:8300"`)
	}
	return w.Result(), nil
}

// leaders returns how often the agent was asked for the leader. It fails the test if the agent was asked for anything else.
func (e *electing) leaders(t *testing.T) int {
	t.Helper()
	for _, what := range e.asked {
		if what != "leader" {
			t.Fatalf("the agent was asked for %q", e.asked)
		}
	}
	return len(e.asked)
}

// driver returns a driver that asks the agent, and is closed with the test.
func (e *electing) driver(t *testing.T, c Config) *driver {
	t.Helper()
	d, err := newDriver(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if err := d.agent.SetTransport(e); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestNext_ReadsAfterTheElection(t *testing.T) {
	refuses := func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "Permission denied", http.StatusForbidden) }
	knowsNothing := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<html>")
	}
	for _, c := range []struct {
		name   string
		agent  *electing
		config Config
		tries  int // that fail
		asks   []string
	}{
		{"none", &electing{}, Config{}, 1, []string{"read", "leader", "consistent read"}},
		{"a long one", &electing{lacks: 2}, Config{}, 1, []string{"read", "leader", "leader", "leader", "consistent read"}},
		{"of which nothing may be known", &electing{says: refuses}, Config{}, 1, []string{"read", "leader", "consistent read"}},
		{"of which a proxy knows nothing", &electing{says: knowsNothing}, Config{}, 1, []string{"read", "leader", "consistent read"}},
		{"of which nothing can be known", &electing{breaks: true}, Config{}, 4, []string{"read", "leader", "leader", "leader", "consistent read"}},
		{"which a read that may be stale does without", &electing{}, Config{Stale: true}, 1, []string{"read", "read"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				src := c.agent.driver(t, c.config).Watch(registry.Query{Service: "s"})
				for range c.tries {
					if got := next(t, src); !strings.HasPrefix(got, "error: ") {
						t.Fatalf("got %q from a connection that breaks", got)
					}
					time.Sleep(registry.DefaultBackoffMin)
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

// A client of a thousand services asks for the leader no more often than a client of one, and learns of the leader no later.
func TestNext_OneReadOfAllAsksForTheLeader(t *testing.T) {
	for _, c := range []struct {
		name  string
		agent *electing
		each  string // what each gets, or the error beside it
		asks  []string
	}{
		{"in an election", &electing{lacks: 3}, "a",
			slices.Concat(slices.Repeat([]string{"leader"}, 4), slices.Repeat([]string{"consistent read"}, 20))},
		{"while no agent answers", &electing{breaks: true}, "broken", []string{"leader"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				d := c.agent.driver(t, Config{})
				release := d.agent.BlockElection("") // until all of them ask
				for i := range 20 {
					go func() {
						src := d.newSource(registry.Query{Service: fmt.Sprint("s", i)})
						src.phase = recovering
						if got := next(t, src); got != c.each && !strings.Contains(got, fmt.Sprintf("read service s%d: %s", i, c.each)) {
							t.Errorf("got %q, want %q", got, c.each)
						}
					}()
				}
				synctest.Wait()
				release()
				time.Sleep(time.Minute)
				synctest.Wait()
				if !slices.Equal(c.agent.asked, c.asks) {
					t.Errorf("the agent was asked for %q", c.agent.asked)
				}
			})
		})
	}
}

// A watch whose read fails right after an election has ended does not ask for the leader again.
func TestNext_DoesNotAskForTheLeaderRightAfterAnElection(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		agent := &electing{}
		d := agent.driver(t, Config{})
		asks := []string{"leader", "consistent read"}
		for _, wait := range []time.Duration{0, agentpkg.LeaderKnownFor - 1, 1} {
			time.Sleep(wait)
			src := d.newSource(registry.Query{Service: "s"})
			src.phase = recovering
			agent.asked = []string{"begun"}
			if got := next(t, src); got != "a" || !slices.Equal(agent.asked[1:], asks) {
				t.Errorf("got %q after %v more, and the agent was asked for %q", got, wait, agent.asked[1:])
			}
			asks = []string{"consistent read"}
			if wait == agentpkg.LeaderKnownFor-1 {
				asks = []string{"leader", "consistent read"}
			}
		}
	})
}

// A cluster that has lost its majority is asked often for as long as a usual election takes, and then rarely.
func TestNext_AsksRarelyInALongElection(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		agent := &electing{lacks: 1000}
		d := agent.driver(t, Config{})
		src := d.newSource(registry.Query{Service: "s"})
		src.phase = recovering
		var asked []int
		for range agentpkg.MaxLeaderTries {
			began, before := time.Now(), len(agent.asked)
			_, err := src.Next(t.Context())
			if !errors.Is(err, registry.ErrUnavailable) || !agentpkg.LacksLeader(err) || !strings.Contains(err.Error(), "read service s") {
				t.Errorf("got %v", err)
			}
			if took := time.Since(began); took != DefaultTimeout {
				t.Errorf("it took %v, want the time of any call", took)
			}
			asked = append(asked, agent.leaders(t)-before)
			time.Sleep(time.Second)
		}
		if asked[0] < 20 || asked[1] > 20 || asked[2] > 20 {
			t.Errorf("the agent was asked %d times, in attempts of %v each", asked, DefaultTimeout)
		}
	})
}

// The number of questions does not grow with the number of watches, although each watch gives up at another time.
func TestNext_SharesTheQuestionForTheLeader(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		agent := &electing{lacks: 1000}
		d := agent.driver(t, Config{})
		for i := range 200 {
			go func() {
				time.Sleep(time.Duration(i) * 5 * time.Millisecond)
				src := d.newSource(registry.Query{Service: "s"})
				src.phase = recovering
				if got := next(t, src); !strings.Contains(got, string(agentpkg.ErrNoLeader)) {
					t.Errorf("got %q", got)
				}
			}()
		}
		time.Sleep(DefaultTimeout + 2*time.Second)
		synctest.Wait()
		if n := agent.leaders(t); n < 20 || n > 50 {
			t.Errorf("the agent was asked %d times", n)
		}
	})
}

func TestNext_GivesUpAskingForTheLeader(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		agent := &electing{lacks: 10}
		d := agent.driver(t, Config{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		first, second := d.newSource(registry.Query{Service: "s"}), d.newSource(registry.Query{Service: "s"})
		first.phase, second.phase = recovering, recovering
		go func() {
			time.Sleep(time.Millisecond)
			if got := next(t, second); got != "a" {
				t.Errorf("the watch that goes on got %q", got)
			}
		}()
		if _, err := first.Next(ctx); err != context.DeadlineExceeded {
			t.Errorf("the watch that gave up got %v", err)
		}
		time.Sleep(time.Minute)
	})
}
