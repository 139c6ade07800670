package consul

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

func isMaintenance(r *http.Request) bool { return strings.Contains(r.URL.Path, "/maintenance/") }

func TestRelease_ShowsMaintenanceFirst(t *testing.T) {
	agent := testbed.StartConsul(t)
	for _, format := range []string{FormatRollcall, FormatKratos} {
		r := open(t, Config{Address: agent.Addr(), Format: format})
		in := registry.Instance{ID: "a", Service: uniqueService(), Address: "10.0.0.1:80"}
		w := watchtest.Watch(t, open(t, Config{Address: agent.Addr()}), registry.Query{Service: in.Service, AnyStatus: true})
		g := watchtest.Register(t, r, in)
		w.Until("the instance", watchtest.Healthy(1))
		if err := g.Deregister(watchtest.Context(t)); err != nil {
			t.Fatal(err)
		}
		w.Until("none", watchtest.Healthy(0))
		pairs := w.All()
		if before := pairs[len(pairs)-2].Find("a"); before == nil || before.Status != registry.Maintenance {
			t.Errorf("in the format %s it was last seen as %v", format, before)
		}
	}
}

func TestRelease_DoesNotPauseInMaintenance(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	proxy := testbed.NewProxy(t, agent.Addr())
	r := open(t, Config{Address: proxy.Addr()})
	g := watchtest.Register(t, r, registry.Instance{ID: "a", Service: uniqueService(), Address: "10.0.0.1:80", Status: registry.Maintenance})
	var asked atomic.Int64
	proxy.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if isMaintenance(r) {
			asked.Add(1)
		}
		return false
	})
	if err := g.Deregister(watchtest.Context(t)); err != nil {
		t.Error(err)
	}
	if n := asked.Load(); n > 0 {
		t.Errorf("it was put into maintenance %d times, although it was in maintenance", n)
	}
}

func TestRelease_RemovesTheEntryIfMaintenanceFails(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	proxy := testbed.NewProxy(t, agent.Addr())
	operator := operatorOf(t, agent)
	r := open(t, Config{Address: proxy.Addr()})
	in := registry.Instance{ID: "a", Service: uniqueService(), Address: "10.0.0.1:80"}
	g := watchtest.Register(t, r, in)
	proxy.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if isMaintenance(r) {
			http.Error(w, "no", http.StatusInternalServerError)
			return true
		}
		return false
	})
	if err := g.Deregister(watchtest.Context(t)); err != nil {
		t.Error(err)
	}
	wantNonePassing(t, operator, in.Service)
}

func TestRelease_RemovesTheEntryIfItsContextEndsMeanwhile(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	proxy := testbed.NewProxy(t, agent.Addr())
	operator := operatorOf(t, agent)
	l, _ := registerLease(t, Config{Address: proxy.Addr()})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	marked := make(chan struct{})
	var once sync.Once
	proxy.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if isMaintenance(r) {
			once.Do(func() { close(marked) })
		}
		return false
	})
	var work sync.WaitGroup
	defer work.Wait()
	work.Go(func() {
		<-marked
		watchtest.Eventually(t, "it is in maintenance", func() bool {
			checks, err := operator.Agent().Checks()
			return err == nil && checks[maintenanceCheck+l.serviceID] != nil || ctx.Err() != nil
		})
		cancel()
	})
	if err := l.Release(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	watchtest.Eventually(t, "the agent does not have it", func() bool {
		_, _, err := operator.Agent().Service(l.serviceID, nil)
		return err != nil
	})
}

// Leases that are released at once share their reads of the catalog, so a slow agent delays Close by a few reads only.
func TestRelease_SharesReadsOfTheCatalog(t *testing.T) {
	agent := testbed.StartConsul(t)
	proxy := testbed.NewProxy(t, agent.Addr())
	r := open(t, Config{Address: proxy.Addr(), Options: registry.Options{CloseTimeout: watchtest.Timeout}})
	service := uniqueService()
	const many = 40
	for i := range many {
		watchtest.Register(t, r, registry.Instance{ID: fmt.Sprint(i), Service: service, Address: "10.0.0.1:80"})
	}
	// The first read is delayed until all have deregistered, so all of them can share the second one.
	var reads, deregistered atomic.Int64
	all := make(chan struct{})
	proxy.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		switch {
		case strings.HasPrefix(r.URL.Path, "/v1/health/"):
			reads.Add(1)
			select {
			case <-all:
			case <-r.Context().Done():
			}
		case strings.Contains(r.URL.Path, "/service/deregister/"):
			if deregistered.Add(1) == many {
				close(all)
			}
		}
		return false
	})
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	wantNonePassing(t, operatorOf(t, agent), service)
	if n := reads.Load(); n == 0 || n > many/2 {
		t.Errorf("%d instances left with %d reads of the catalog", many, n)
	}
}

// If Close gives up, few entries are in maintenance and not removed.
func TestRelease_BoundsHowManyAreReleasedAtOnce(t *testing.T) {
	agent := testbed.StartConsul(t)
	proxy := testbed.NewProxy(t, agent.Addr())
	r := open(t, Config{Address: proxy.Addr(), Options: registry.Options{CloseTimeout: watchtest.Timeout}})
	service := uniqueService()
	for i := range 2 * maxReleasing {
		watchtest.Register(t, r, registry.Instance{ID: fmt.Sprint(i), Service: service, Address: "10.0.0.1:80"})
	}
	var leaving, most atomic.Int64
	proxy.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		switch {
		case isMaintenance(r):
			n := leaving.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
		case strings.Contains(r.URL.Path, "/service/deregister/"):
			leaving.Add(-1)
		}
		return false
	})
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	t.Logf("%d at once were in maintenance and not removed", most.Load())
	if n := most.Load(); n == 0 || n > maxReleasing {
		t.Errorf("%d at once were in maintenance and not removed, want %d at most", n, maxReleasing)
	}
}

// The pauses in maintenance overlap.
func TestRelease_PausesAtTheSameTime(t *testing.T) {
	agent := testbed.StartConsul(t)
	r := open(t, Config{Address: agent.Addr()})
	service := uniqueService()
	var all []registry.Registration
	for i := range 100 {
		all = append(all, watchtest.Register(t, r, registry.Instance{ID: fmt.Sprint(i), Service: service, Address: "10.0.0.1:80"}))
	}
	began := time.Now()
	var work sync.WaitGroup
	for _, g := range all {
		work.Go(func() {
			if err := g.Deregister(watchtest.Context(t)); err != nil {
				t.Error(err)
			}
		})
	}
	work.Wait()
	took := time.Since(began)
	t.Logf("100 instances left in %v", took)
	if took > 100*leavePause/2 {
		t.Errorf("100 instances left in %v, as if one after another", took)
	}
}

// An attempt that the agent did not carry out leaves the entry of an earlier registration of the ID in this process.
func TestRelease_OfAFailedAttemptLeavesAnEarlierRegistration(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	operator := operatorOf(t, agent)
	proxy := testbed.NewProxy(t, agent.Addr())
	d := openDriver(t, Config{Address: proxy.Addr()})
	t.Cleanup(func() { d.Close() })
	ctx := watchtest.Context(t)
	exists := func() bool {
		entries, err := operator.Agent().Services()
		if err != nil {
			t.Fatal(err)
		}
		return len(entries) == 1
	}
	if _, err := d.Register(ctx, minimal(), nil); err != nil {
		t.Fatal(err)
	}

	proxy.Intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		refuses := strings.HasSuffix(r.URL.Path, "/agent/service/register")
		if refuses {
			rw.WriteHeader(http.StatusInternalServerError)
		}
		return refuses
	})
	failed, err := d.Register(ctx, minimal(), nil)
	if err == nil || failed == nil {
		t.Fatalf("Register returns %v, %v, want a lease beside an error", failed, err)
	}
	again, err := d.Register(ctx, minimal(), failed)
	if err == nil || again == nil {
		t.Fatalf("the next Register returns %v, %v, want a lease beside an error", again, err)
	}
	if err := again.Release(ctx); err != nil {
		t.Fatal(err)
	}
	if !exists() {
		t.Error("Release of an attempt that failed removed the entry of the earlier registration")
	}

	proxy.Heal()
	newer, err := d.Register(ctx, minimal(), again)
	if err == nil {
		err = newer.Release(ctx)
	}
	if err != nil || exists() {
		t.Errorf("after the newer registration was released, the error is %v and whether the entry exists is %v", err, exists())
	}
}
