package consul

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/consul/internal/codec"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

func isHeartbeat(r *http.Request) bool {
	return strings.HasPrefix(r.URL.Path, "/v1/agent/check/update/")
}

// registrations counts the registrations that the proxy has seen.
func registrations(p *testbed.Proxy) (n int) {
	for _, q := range p.Log() {
		if q.Path == "/v1/agent/service/register" {
			n++
		}
	}
	return n
}

// Consul keeps the status of a check over a restart only if a heartbeat has set it, and an agent that was paused shows an old status.
func TestRegister_EndsWithAHeartbeat(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	proxy := testbed.NewProxy(t, agent.Addr())
	for _, kind := range []string{CheckTTL, CheckTCP} {
		d, err := newDriver(Config{Address: proxy.Addr(), Checks: Checks{Kinds: []string{kind}}})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		in := &registry.Instance{ID: "a", Service: uniqueService(), Address: "10.0.0.1:80", Weight: 1}
		for _, what := range []string{"a new entry", "an entry that passes"} {
			if _, err := d.Register(t.Context(), in, nil); err != nil {
				t.Fatal(err)
			}
			paths := proxy.Log()
			if last := paths[len(paths)-1]; !strings.HasPrefix(last.Path, "/v1/agent/check/update/") {
				t.Errorf("%s: the last call for %s is %s", kind, what, last.Path)
			}
		}
	}
}

// An agent that restarts with its data shows the instance as passing at once, even if it was registered just before.
func TestRegister_SurvivesARestartOfTheAgent(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	operator := operatorOf(t, agent)
	d, err := newDriver(Config{Address: agent.Addr(), TTL: watchtest.Timeout})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	in := &registry.Instance{ID: "a", Service: uniqueService(), Address: "10.0.0.1:80", Weight: 1}
	if _, err := d.Register(t.Context(), in, nil); err != nil {
		t.Fatal(err)
	}
	agent.Kill()
	agent.Restart(true)
	checks, err := operator.Agent().Checks()
	if err != nil {
		t.Fatal(err)
	}
	if c := checks[checkID(codec.ServiceID(in.Service, "a"))]; c == nil || c.Status != "passing" {
		t.Errorf("after the restart the check is %+v", c)
	}
}

// A proxy that limits the time of a call ends the read that waits for a change of the entry. The registration stays as it is.
func TestWatchEntry_SurvivesALostRead(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	for name, end := range map[string]func(http.ResponseWriter){
		"504": func(w http.ResponseWriter) { http.Error(w, "upstream request timeout", http.StatusGatewayTimeout) },
		"EOF": func(w http.ResponseWriter) {
			if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
				conn.Close()
			}
		},
	} {
		for _, kind := range []string{CheckTTL, CheckTCP} {
			t.Run(name+" "+kind, func(t *testing.T) {
				proxy := testbed.NewProxy(t, agent.Addr())
				r := open(t, Config{Address: proxy.Addr(), Checks: Checks{Kinds: []string{kind}}})
				var ended atomic.Int64
				proxy.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
					if !r.URL.Query().Has("hash") {
						return false
					}
					ended.Add(1)
					end(w)
					return true
				})
				g := watchtest.Register(t, r, registry.Instance{ID: "a", Service: uniqueService(), Address: "10.0.0.1:80"})
				watchtest.Eventually(t, "three waits were ended", func() bool { return ended.Load() >= 3 })
				if n := registrations(proxy); n != 1 || g.Err() != nil {
					t.Errorf("it was registered %d times, and Err is %v", n, g.Err())
				}
			})
		}
	}
}

// Reads of the entry have pauses between them, even if the agent reports a change each time.
func TestWatchEntry_PausesBetweenChanges(t *testing.T) {
	of := codec.Owner{Client: "c", Lease: 1, Seq: 1}
	var reads atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Consul-ContentHash", fmt.Sprint(reads.Add(1)))
		fmt.Fprintf(w, `{"Meta":{%q:%q}}`, codec.MetaOwner, of)
	}))
	defer srv.Close()
	d, err := newDriver(Config{Address: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	l := bareLease(d, "s:a", of)
	const lasts = 2 * time.Second
	ctx, cancel := context.WithTimeout(t.Context(), lasts)
	defer cancel()
	if err := l.watchEntry(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the entry watch ended with %v", err)
	}
	if n, most := reads.Load(), int64(lasts/changedPause)+2; n > most {
		t.Errorf("there were %d reads in %v, want %d at most", n, lasts, most)
	}
}

func TestClassify_SaysWhatAProxysTimeoutMeans(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	proxy := testbed.NewProxy(t, agent.Addr())
	proxy.Fail(http.StatusGatewayTimeout, "<html>timeout</html>")
	d, err := newDriver(Config{Address: proxy.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	_, err = d.Register(t.Context(), &registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80", Weight: 1}, nil)
	if err == nil || !strings.Contains(err.Error(), "Wait (wait)") {
		t.Errorf("got %v", err)
	}
}

// One heartbeat without an answer is harmless, since the next one is in time. A second one in a row ends the lease.
func TestRenew_SurvivesOneLateHeartbeat(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	proxy := testbed.NewProxy(t, agent.Addr())
	r := open(t, Config{Address: proxy.Addr(), TTL: minTTL})
	g := watchtest.Register(t, r, registry.Instance{ID: "a", Service: uniqueService(), Address: "10.0.0.1:80"})
	var n atomic.Int64
	var from atomic.Int64 // all heartbeats from this one on are late
	from.Store(1 << 30)
	proxy.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !isHeartbeat(r) {
			return false
		}
		i := n.Add(1)
		if i != 1 && i < from.Load() {
			return false
		}
		<-r.Context().Done()
		return true
	})
	watchtest.Eventually(t, "two heartbeats after the late one", func() bool { return n.Load() >= 3 })
	if n := registrations(proxy); n != 1 || g.Err() != nil {
		t.Errorf("it was registered %d times, and Err is %v", n, g.Err())
	}
	from.Store(n.Load() + 1)
	watchtest.Eventually(t, "the loss is noticed", func() bool { return g.Err() != nil })
	proxy.Heal()
	watchtest.Eventually(t, "it is registered again", func() bool { return g.Err() == nil })
}

// An agent that was paused for longer than the TTL regards all checks as critical when it goes on.
func TestRegister_SendsAHeartbeatAfterThePauseOfAnAgent(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	operator := operatorOf(t, agent)
	const ttl = 9 * time.Second
	r := open(t, Config{Address: agent.Addr(), TTL: ttl, Wait: time.Second})
	service := uniqueService()
	var all []registry.Registration
	for _, id := range []string{"a", "b", "c", "d"} {
		all = append(all, watchtest.Register(t, r, registry.Instance{ID: id, Service: service, Address: "10.0.0.1:80"}))
	}
	agent.Stop()
	stopped := time.Now()
	watchtest.Eventually(t, "the losses are noticed, after the TTL", func() bool {
		return !slices.ContainsFunc(all, func(g registry.Registration) bool { return g.Err() == nil }) && time.Since(stopped) > ttl
	})
	agent.Continue()
	on := time.Now()
	watchtest.Eventually(t, "all are registered again", func() bool {
		return !slices.ContainsFunc(all, func(g registry.Registration) bool { return g.Err() != nil })
	})
	watchtest.Eventually(t, "all pass", func() bool { return passing(t, operator, service) == len(all) })
	took := time.Since(on)
	t.Logf("all pass %v after the agent goes on", took)
	if took >= ttl/3 {
		t.Errorf("all pass after %v, as with a heartbeat each %v", took, ttl/3)
	}
}
