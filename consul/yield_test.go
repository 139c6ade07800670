package consul

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// A replaced registration waits until the agent has no entry of its ID. It does not wait for a set, which never shows the instance with
// these settings.
func TestCheckReplaced_ReadsTheAgent(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	proxy := testbed.NewProxy(t, agent.Addr())
	var reads atomic.Int64
	proxy.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/agent/service/") && r.Method == http.MethodGet {
			reads.Add(1)
		}
		return false
	})
	in := registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80"}
	at := func(address string) registry.Registration {
		t.Helper()
		return watchtest.Register(t, open(t, Config{Address: address, Filter: `Service.Meta.never == "set"`, Options: registry.Options{
			BackoffMin: 10 * time.Millisecond, BackoffMax: 20 * time.Millisecond,
		}}), in)
	}
	older := at(proxy.Addr())
	newer := at(agent.Addr())
	watchtest.Eventually(t, "it is replaced", func() bool { return errors.Is(older.Err(), registry.ErrReplaced) })
	seen := reads.Load()
	watchtest.Eventually(t, "it looks whether the ID is free", func() bool { return reads.Load() > seen+10 })
	if err := errors.Join(newer.Err(), newer.Deregister(watchtest.Context(t))); err != nil {
		t.Error(err)
	}
	watchtest.Eventually(t, "it is back", func() bool { return older.Err() == nil })
}
