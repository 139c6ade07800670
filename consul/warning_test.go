package consul_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/consul"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// statusReader reads the registrations of the service "s" as fast as Consul answers, and through a watch without a rate limit. It
// reports an error for each reading of an instance that passes and whose version says that it was registered with a warning.
type statusReader struct {
	t       *testing.T
	changed chan *registry.Instance
}

func readStatus(t *testing.T, r *registry.Registry, operator *api.Client) *statusReader {
	t.Helper()
	s := &statusReader{t, make(chan *registry.Instance, 1<<16)}
	ctx, cancel := context.WithCancel(context.Background())
	watched, polled := make(chan int), make(chan int)
	go func() {
		n := 0
		for set := range r.Watch(ctx, registry.Query{Service: "s", AnyStatus: true}) {
			for _, in := range set {
				n++
				s.check("the watch", in.Version, in.Status == registry.Passing)
				s.changed <- in
			}
		}
		watched <- n
	}()
	go func() {
		n := 0
		for o := (&api.QueryOptions{}).WithContext(ctx); ctx.Err() == nil; {
			entries, meta, err := operator.Health().Service("s", "", false, o)
			if err != nil {
				o.WaitIndex = 0
				continue
			}
			o.WaitIndex = meta.LastIndex
			for _, e := range entries {
				n++
				s.check("the catalog", e.Service.Meta["version"], e.Checks.AggregatedStatus() == api.HealthPassing)
			}
		}
		polled <- n
	}()
	t.Cleanup(func() {
		cancel()
		t.Logf("the watch read %d instances, and the catalog had %d", <-watched, <-polled)
	})
	return s
}

func (s *statusReader) check(reader, version string, passes bool) {
	if passes && strings.HasPrefix(version, "warning") {
		s.t.Errorf("%s shows %s as passing", reader, version)
	}
}

// until waits until the watch shows a version with the status that it was registered with.
func (s *statusReader) until(version string, status registry.Status) {
	s.t.Helper()
	timeout := time.NewTimer(watchtest.Timeout)
	defer timeout.Stop()
	for {
		select {
		case in := <-s.changed:
			if in.Version == version && in.Status == status {
				return
			}
		case <-timeout.C:
			s.t.Fatalf("the watch does not show %s", version)
		}
	}
}

// content returns the n-th content of an instance. Its version names its status.
func content(n int) registry.Instance {
	in := registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80", Version: fmt.Sprintf("passing-%d", n), Status: registry.Passing}
	if n%2 == 1 {
		in.Version, in.Status = fmt.Sprintf("warning-%d", n), registry.Warning
	}
	return in
}

// registerAnew deregisters g, unless it is nil, and registers an instance. It does not update g, since an update from warning to passing
// changes the status before the version.
func registerAnew(ctx context.Context, r *registry.Registry, g registry.Registration, in registry.Instance) (registry.Registration, error) {
	if g != nil {
		if err := g.Deregister(ctx); err != nil {
			return nil, err
		}
	}
	return r.Register(ctx, in)
}

func operatorAt(t *testing.T, address, token string) *api.Client {
	t.Helper()
	config := api.DefaultConfig()
	config.Address, config.Token = address, token
	config.Transport.DisableKeepAlives = true
	c, err := api.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func unlimited(t *testing.T, c consul.Config) *registry.Registry {
	t.Helper()
	c.Options.Burst, c.Options.Spacing, c.Options.SpacingPerInstance = 1<<20, time.Nanosecond, time.Nanosecond
	return open(t, c)
}

// An instance that is registered with a warning is never shown as passing: not by an update, not if it registers anew, and not if it
// was lost and registers again.
func TestWatch_ShowsNoWarningAsPassing(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	operator := operatorAt(t, agent.Addr(), "")
	r := unlimited(t, consul.Config{Address: agent.Addr()})
	status := readStatus(t, unlimited(t, consul.Config{Address: agent.Addr()}), operator)
	ctx, cancel := context.WithTimeout(context.Background(), 5*watchtest.Timeout)
	t.Cleanup(cancel)
	var g registry.Registration
	for n := range 100 {
		in, err := content(n), error(nil)
		switch {
		case n%4 == 3: // from passing to warning
			err = g.Update(ctx, in)
		default:
			g, err = registerAnew(ctx, r, g, in)
		}
		if err != nil {
			t.Fatal(err)
		}
		status.until(in.Version, in.Status)
		if n%8 == 7 {
			if err := operator.Agent().ServiceDeregister("s:a"); err != nil {
				t.Fatal(err)
			}
			for registered := false; !registered; {
				all, err := operator.Agent().Services()
				registered = err == nil && all["s:a"] != nil
				if ctx.Err() != nil {
					t.Fatal("it does not register again")
				}
			}
		}
	}
}

// This is the same with several agents, all of which are away for a while.
func TestWatch_ShowsNoWarningAsPassingAfterAllAgentsWereAway(t *testing.T) {
	t.Parallel()
	cluster := testbed.StartConsulCluster(t)
	var all []string
	for _, s := range cluster.Servers {
		all = append(all, s.Addr())
	}
	c := consul.Config{Address: strings.Join(all, ","), Token: registry.NewSecret(cluster.Token), Timeout: 3 * time.Second}
	r := unlimited(t, c)
	status := readStatus(t, unlimited(t, c), operatorAt(t, all[1], cluster.Token))
	ctx, cancel := context.WithTimeout(context.Background(), 10*watchtest.Timeout)
	t.Cleanup(cancel)
	g, err := r.Register(ctx, content(0))
	if err != nil {
		t.Fatal(err)
	}
	status.until(content(0).Version, registry.Passing)
	for n := 1; n < 6; n += 2 {
		cluster.KillServers()
		updated := make(chan error, 1)
		go func() { updated <- g.Update(ctx, content(n)) }()
		cluster.RestartServers()
		if err := <-updated; err != nil {
			t.Fatal(err)
		}
		status.until(content(n).Version, registry.Warning)
		cluster.KillServers() // with the warning
		cluster.RestartServers()
		if g, err = registerAnew(ctx, r, g, content(n+1)); err != nil {
			t.Fatal(err)
		}
		status.until(content(n+1).Version, registry.Passing)
	}
}

// An update of an instance does not change the status of a check that the agent makes.
func TestUpdate_KeepsTheWarningOfAnHTTPCheck(t *testing.T) {
	t.Parallel()
	warns := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) }))
	t.Cleanup(warns.Close)
	agent := testbed.StartConsul(t)
	c := consul.Config{Address: agent.Addr(), Checks: consul.Checks{Kinds: []string{"ttl", "http"}, Interval: time.Second}}
	status := readStatus(t, unlimited(t, c), operatorAt(t, agent.Addr(), ""))
	ctx, cancel := context.WithTimeout(context.Background(), 5*watchtest.Timeout)
	t.Cleanup(cancel)
	in := registry.Instance{ID: "a", Service: "s", Address: warns.Listener.Addr().String(), Version: "unchecked"}
	g, err := unlimited(t, c).Register(ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	status.until(in.Version, registry.Warning)
	for n := range 100 {
		in.Version = fmt.Sprintf("warning-%d", n)
		if err := g.Update(ctx, in); err != nil {
			t.Fatal(err)
		}
		status.until(in.Version, registry.Warning)
	}
}
