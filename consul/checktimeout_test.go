package consul

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/sleep"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// The settings say how long the agent waits for an answer, and how many good answers in a row it needs after a bad one.
func TestChecks_CountResultsInARow(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	var bad atomic.Bool
	var slow, good atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/slow":
			if sleep.For(r.Context(), 2*time.Second) { // longer than the interval, which bounds it otherwise
				slow.Add(1)
			}
		case bad.Load():
			good.Store(0)
			w.WriteHeader(http.StatusInternalServerError)
		default:
			good.Add(1)
		}
	}))
	t.Cleanup(srv.Close)
	register := func(service string, k Checks) *watchtest.Watcher {
		k.Kinds, k.Interval = []string{CheckHTTP}, time.Second
		r := open(t, Config{Address: agent.Addr(), Checks: k})
		watchtest.Register(t, r, registry.Instance{ID: "a", Service: service, Address: strings.TrimPrefix(srv.URL, "http://")})
		return watchtest.Watch(t, r, registry.Query{Service: service, AnyStatus: true})
	}
	lenient, hasty := register("lenient", Checks{HTTPPath: "/slow", Timeout: 20 * time.Second}), register("hasty", Checks{HTTPPath: "/slow"})
	strict := register("strict", Checks{SuccessBeforePassing: 3})
	hasty.Until("that the answer is late", statusIs(registry.Critical))

	strict.Until("that all is well", statusIs(registry.Passing))
	bad.Store(true)
	strict.Until("that it is not", statusIs(registry.Critical))
	bad.Store(false)
	strict.Until("that it is again", statusIs(registry.Passing))
	if n := good.Load(); n < 3 {
		t.Errorf("it passes after %d good answers, want 3", n)
	}

	watchtest.Eventually(t, "some late answers", func() bool { return slow.Load() >= 2 })
	lenient.Until("that it passes", statusIs(registry.Passing))
	for _, p := range lenient.All() {
		if in := p.Find("a"); in != nil && in.Status != registry.Passing {
			t.Errorf("the agent has not waited: %v", p)
		}
	}
}
